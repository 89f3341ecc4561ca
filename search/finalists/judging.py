"""Judging a round of finalists on test speakers: by the best epoch of every training, each fold's on that fold's own.

The driver keeps the probabilities, so that averages over seeds and finalists come from the same look.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search.baselines import CLASSICAL_ROW as CLASSICAL
from search.cluster.node_watch import away_from_unfit
from search.finalists.rounds import FOLDER, Round, runs_of
from search.run_folder import write_atomically
from search.study import StudyTrial
from search.trial import judge_classical, judge_trial
from search.trial_plan import TrialPlan
from search.tuning import Resources
from ser_data.corpus import Corpus
from ser_data.splits import Split
from ser_models.judged import judge
from ser_models.metrics import count_by_speaker

JUDGED_FILE = "judged.json"
PREDICTIONS_FILE = "test_predictions.csv"
ENSEMBLE = "ensemble"
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TestClips:
    """The test clips of one split, in the order of the corpus.

    Attributes:
        clips: names, str (num_clips,)
        labels: int64, likewise
        speakers: str, likewise
    """

    __test__ = False  # pytest takes the name for its own

    clips: NDArray[np.str_]
    labels: NDArray[np.int64]
    speakers: NDArray[np.str_]

    @classmethod
    def of(cls, corpus: Corpus, split: Split, emotions: Sequence[str]) -> "TestClips":
        """Those of *emotions*."""
        labels = corpus.labels(emotions)
        rows = split.indices("test")
        rows = rows[labels[rows] >= 0]
        names, speakers = (corpus.clips[column].to_numpy(dtype=str)[rows] for column in ("clip", "actor"))
        return cls(names, labels[rows], speakers)

    @classmethod
    def together(cls, parts: Sequence["TestClips"]) -> "TestClips":
        """The clips of several splits, one after the other."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("clips", "labels", "speakers"))
        )

    def totals(self, num_classes: int) -> NDArray[np.int64]:
        """Clips by speaker (sorted by name) and class."""
        names, rows = np.unique(self.speakers, return_inverse=True)
        every = np.ones(len(rows), dtype=bool)
        return count_by_speaker(rows, self.labels, every, shape=(len(names), num_classes))


@dataclass(frozen=True)
class JudgedRow:
    """What one row of the finalists' board is made of.

    Attributes:
        name: a trial, ``ensemble`` or ``SVM``
        role: ``finalist``, ``default``, ``ensemble`` or ``classical``
        config: the candidate's configuration, empty of the last two
        val_uars: best validation UAR by seed, the mean over the splits; empty of an ensemble
        scores: of each seed, from :func:`ser_models.judged.judge` on all test clips
        trainings: how many trainings stand behind it
        is_default: whether it is its space's default configuration
        space: of the candidate, in a search over several
    """

    name: str
    role: str
    config: dict[str, Any]
    val_uars: list[float]
    scores: list[dict[str, Any]]
    trainings: int
    is_default: bool = False
    space: str = ""


def judge_round(
    the_round: Round,
    run_folder: Path,
    trials: Mapping[str, Mapping[int, StudyTrial]],
    clips: Mapping[str, TestClips],
    plans: Mapping[str, TrialPlan],
    resources: Mapping[str, Resources],
    emotions: Sequence[str],
) -> list[JudgedRow]:
    """Let workers judge every training of a round, and write down every clip's probabilities.

    A seed counts for a candidate where its trainings on all splits have a score.

    Args:
        the_round: trained
        run_folder: the search's
        trials: of each split's record
        clips: test clips of each split
        plans: of the search's trials, by the candidates' spaces
        resources: of one trial, likewise
        emotions: the classes, in the order of the probabilities

    Returns:
        finalists and the defaults by validation, best first; then the ensemble of the finalists, and the classical
        baseline
    """
    import ray

    trained = {split: runs_of(the_round, trials[split]) for split in the_round.splits}
    spaces = {candidate.name: candidate.space for candidate in the_round.candidates}
    asked: dict[tuple[str, str, int], Any] = {}
    for split in the_round.splits:
        judging = {space: the_round.trial_plan(plan, run_folder, split, judged="test") for space, plan in plans.items()}
        for (name, seed), trial in trained[split].items():
            judged = ray.remote(judge_trial).options(**resources[spaces[name]].task_options())
            asked[split, name, seed] = judged.remote(trial.number, trial.config, judging[spaces[name]])
        classical = ray.remote(judge_classical).options(num_cpus=1, **away_from_unfit())
        asked[split, CLASSICAL, 1] = classical.remote(next(iter(judging.values())))  # it reads of a plan what all share
    answers = {key: ray.get(answer) for key, answer in asked.items()}
    together = TestClips.together([clips[split] for split in the_round.splits])
    found: dict[str, list[Probabilities]] = {}
    val_uars: dict[str, list[float]] = {}
    for name in (*(candidate.name for candidate in the_round.candidates), CLASSICAL):
        for seed in range(1, the_round.seeds + 1):
            keys = [(split, name, seed) for split in the_round.splits]
            if not all(key in answers for key in keys):
                continue
            found.setdefault(name, []).append(np.concatenate([answers[key][1] for key in keys]))
            val_uars.setdefault(name, []).append(float(np.mean([answers[key][0] for key in keys])))
    rows = _rows(the_round, found, val_uars, together)
    _write(the_round.folder(run_folder), _mean_probabilities(the_round, found), together, emotions)
    return rows


def _rows(
    the_round: Round,
    found: Mapping[str, list[Probabilities]],
    val_uars: Mapping[str, list[float]],
    clips: TestClips,
) -> list[JudgedRow]:
    def scores(probabilities: Sequence[Probabilities]) -> list[dict[str, Any]]:
        return [judge(clips.labels, clips.speakers, one) for one in probabilities]

    splits = len(the_round.splits)
    rows = [
        JudgedRow(
            one.name,
            one.role,
            one.config,
            val_uars[one.name],
            scores(found[one.name]),
            len(found[one.name]) * splits,
            one.is_default,
            one.space,
        )
        for one in the_round.candidates
        if one.name in found
    ]
    rows.sort(key=lambda row: -float(np.mean(row.val_uars)))
    finalists = [row for row in rows if row.role == "finalist"]
    if sum(row.trainings for row in finalists) > splits:
        mean = _ensemble(the_round, found)
        rows.append(JudgedRow(ENSEMBLE, ENSEMBLE, {}, [], scores([mean]), sum(row.trainings for row in finalists)))
    rows.append(JudgedRow(CLASSICAL, "classical", {}, val_uars[CLASSICAL], scores(found[CLASSICAL]), splits))
    return rows


def _ensemble(the_round: Round, found: Mapping[str, list[Probabilities]]) -> Probabilities:
    """The mean over all seeds of all finalists; the default is none of them."""
    members = [one for candidate in the_round.candidates if candidate.role == "finalist"
               for one in found.get(candidate.name, ())]  # fmt: skip
    mean: Probabilities = np.mean(members, axis=0)
    return mean


def _mean_probabilities(the_round: Round, found: Mapping[str, list[Probabilities]]) -> dict[str, Probabilities]:
    """Of every row: the mean over its seeds."""
    means = {name: np.mean(several, axis=0) for name, several in found.items()}
    if any(candidate.role == "finalist" and candidate.name in found for candidate in the_round.candidates):
        means[ENSEMBLE] = _ensemble(the_round, found)
    return means


def _write(
    folder: Path,
    probabilities: Mapping[str, Probabilities],
    clips: TestClips,
    emotions: Sequence[str],
) -> None:
    names = np.array(emotions)
    tables = [
        pd.DataFrame(
            {
                "row": name,
                "clip": clips.clips,
                "speaker": clips.speakers,
                "emotion": names[clips.labels],
                "predicted": names[shares.argmax(axis=1)],
                **{emotion: shares[:, index].round(4) for index, emotion in enumerate(emotions)},
            }
        )
        for name, shares in probabilities.items()
    ]
    write_atomically(folder / PREDICTIONS_FILE, pd.concat(tables).to_csv(index=False))


def mark_judged(the_round: Round, run_folder: Path, rows: Sequence[JudgedRow]) -> None:
    """Write down what the round came to, once everybody can read it: a search killed before judges the same again."""
    content = json.dumps({"rows": [asdict(row) for row in rows]})
    write_atomically(the_round.folder(run_folder) / JUDGED_FILE, content + "\n")


def is_judged(the_round: Round, run_folder: Path) -> bool:
    return (the_round.folder(run_folder) / JUDGED_FILE).is_file()


def last_predictions(run_folder: Path) -> Path | None:
    """Every test clip's probabilities in the last round that was judged to its end, None where there is none."""
    found = (run_folder / FOLDER).glob(f"round-*/{PREDICTIONS_FILE}")
    judged = [path for path in found if path.with_name(JUDGED_FILE).is_file()]
    return max(judged, key=lambda path: int(path.parent.name.partition("-")[2]), default=None)


def emotions_of(predictions: pd.DataFrame) -> list[str]:
    """The classes in a table of :data:`PREDICTIONS_FILE`, in the order of its columns."""
    columns = [str(name) for name in predictions.columns]
    return columns[columns.index("predicted") + 1 :]


def best_training(the_round: Round, rows: Sequence[JudgedRow], trials: Mapping[int, StudyTrial]) -> StudyTrial | None:
    """The training with the best validation score among those of the finalist with the best mean validation score.

    Args:
        the_round: judged
        rows: from :func:`judge_round`
        trials: of the record of the search's own split
    """
    winner = next((row for row in rows if row.role == "finalist"), None)
    if winner is None:
        return None
    own = [trial for (name, _), trial in runs_of(the_round, trials).items() if name == winner.name]
    return max(own, key=lambda trial: trial.best_score, default=None)
