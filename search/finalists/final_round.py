"""From the end of a search to its finalists' board: choose, train with several seeds, judge on test once, tell.

``--finalists K`` asks for it. What was trained and what was judged is on disk at every step, so ``--resume`` goes on
where it was; who looked at test speakers is in the ledger before anybody looks.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from rich.console import Console

from search import run_folder
from search.arguments import Arguments
from search.corpora import TaskData, named_splits, task_data
from search.ending import export_bundle
from search.finalists.board import caption, finalist_board, verdicts, write_finalists
from search.finalists.judging import JudgedRow, TestClips, best_training, is_judged, judge_round, mark_judged
from search.finalists.ledger import Look, enter_everywhere, read_ledger
from search.finalists.rounds import (
    DEFAULT_SEEDS,
    FixedProposals,
    Round,
    choose_candidates,
    facts_of,
    name_of_run,
    next_round,
    read_rounds,
    write_round,
)
from search.opening import Search
from search.record import read_events
from search.rungs import NoStopping, RungGroups
from search.storage.run_storage import RunStorage, open_record
from search.study import Study, StudyTrial, trials_of
from search.terminal import LiveView
from search.trial_plan import TrialPlan, checkpoint_file
from search.tuning import Resources, tune_several
from ser_data.errors import UserError
from ser_data.splits import folds_of


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a search's finalists in a sitting.

    Attributes:
        interrupted: whether something is left for a resume
        board: of a round that was judged now, from :func:`search.finalists.board.finalist_board`; None where none was
        lines: what has to be said with it, or of why there is none
    """

    interrupted: bool = False
    board: pd.DataFrame | None = None
    lines: tuple[str, ...] = ()


class AnySearch(Protocol):
    """A search over one space (:class:`search.opening.Search`) or over several."""

    @property
    def folder(self) -> Path:
        """The search's own."""

    @property
    def config(self) -> dict[str, Any]:
        """Its ``config.json``."""

    @property
    def arguments(self) -> Arguments:
        """Its own."""

    @property
    def storage(self) -> RunStorage | None:
        """Where it lies too."""


@dataclass(frozen=True, eq=False)
class Entrant:
    """A space whose trials may become finalists.

    Attributes:
        search: over it
        plan: of its trials
        resources: of one of its trials
    """

    search: Search
    plan: TrialPlan
    resources: Resources


@dataclass(frozen=True, eq=False)
class FinalRound:
    """What the steps of one round share.

    Attributes:
        search: whose finalists
        data: on the search's own split
        entrants: its spaces
        console: where it is told
    """

    search: AnySearch
    data: TaskData
    entrants: tuple[Entrant, ...]
    console: Console

    def run(self, stopper: Any) -> Outcome:
        """Train and judge what is left of the round.

        Args:
            stopper: :class:`search.tune_adapters.SittingStopper` of its own: the search's time does not count

        Raises:
            UserError: something the user can mend
        """
        the_round = self._round()
        if isinstance(the_round, Outcome):
            return the_round
        write_round(self.search.folder, the_round)
        self._put()
        data = {split: self._data_of(split) for split in the_round.splits}
        clips = {split: TestClips.of(one.corpus, one.split, one.emotions) for split, one in data.items()}
        trials: dict[str, Mapping[int, StudyTrial]] = {}
        for split in the_round.splits:
            trials[split] = self._train(the_round, split, stopper)
            if stopper.stop_all():
                return Outcome(interrupted=True)
        return self._judge(the_round, trials, clips)

    def _put(self) -> None:
        """What is written down goes on from here, whatever becomes of this machine."""
        if self.search.storage is not None:
            self.search.storage.put()

    def _by_space(self) -> dict[str, Entrant]:
        """The entrants by what their candidates say of their space: nothing where there is one."""
        if len(self.entrants) == 1:
            return {"": self.entrants[0]}
        return {entrant.search.space.name: entrant for entrant in self.entrants}

    def _round(self) -> Round | Outcome:
        arguments = self.search.arguments
        candidates = choose_candidates(self._trials(), arguments.finalists or 0)
        if not any(candidate.role == "finalist" for candidate in candidates):
            return Outcome(lines=("no trial has a score, so there are no finalists",))
        splits: tuple[str, ...] = (self.data.split.name,)
        if arguments.folds == "all":
            splits = folds_of(self.data.split.name, named=named_splits(self.data.corpus))
        rounds, judged = read_rounds(self.search.folder), _is_last_judged(self.search.folder)
        if judged and not arguments.force:
            return Outcome(
                lines=("the finalists were judged on test before, and are not judged again; --force looks again",)
            )
        wanted = Round(1, candidates, arguments.seeds or DEFAULT_SEEDS, splits)
        return next_round(rounds, wanted, judged=judged)

    def _trials(self) -> list[StudyTrial]:
        """Those of all spaces."""
        return [
            replace(trial, space=space)
            for space, entrant in self._by_space().items()
            for trial in trials_of(read_events(entrant.search.folder / run_folder.RECORD_FILE)).values()
        ]

    def _data_of(self, split: str) -> TaskData:
        if split == self.data.split.name:
            return self.data
        found = task_data(self.data.corpus, split, self.search.arguments.emotions, seed=self.search.arguments.seed)
        check_can_be_judged(found)
        return found

    def _train(self, the_round: Round, split: str, stopper: Any) -> Mapping[int, StudyTrial]:
        """Train what is left on *split*; the trials of its record."""
        spaces = list(self._by_space())
        places = [spaces.index(candidate.space) for candidate, _ in the_round.runs]
        plans = [the_round.trial_plan(entrant.plan, self.search.folder, split) for entrant in self.entrants]
        with open_record(the_round.record_file(self.search.folder, split), self.search.storage) as record:
            study = Study(
                record,
                FixedProposals(the_round),
                RungGroups(NoStopping, lambda config: ""),
                num_trials=len(the_round.runs),
                max_epochs=[plans[place].max_epochs for place in places],
            )
            view = LiveView(
                self.console, num_trials=len(the_round.runs), known=study.trials,
                title=f"finalists on {split}", name_of=name_of_run,
            )  # fmt: skip
            study.listeners.append(view.on_event)
            with view:
                if study.remaining:
                    view.say(f"finalists on {split}: {study.remaining} of {len(the_round.runs)} trainings to do")
                    tune_several(
                        study, plans, [entrant.resources for entrant in self.entrants], stopper,
                        the_round.split_folder(self.search.folder, split).resolve(),
                        place_of=partial(_place_of_run, places), arguments=self.search.arguments,
                    )  # fmt: skip
        return study.trials

    def _judge(
        self, the_round: Round, trials: Mapping[str, Mapping[int, StudyTrial]], clips: Mapping[str, TestClips]
    ) -> Outcome:
        look, earlier = self._enter_ledger(the_round)
        self._put()
        self._say(f"judging {len(the_round.runs) * len(the_round.splits)} trainings on test speakers")
        entrants = self._by_space()
        rows = judge_round(
            the_round, self.search.folder, trials, clips, {space: one.plan for space, one in entrants.items()},
            {space: one.resources for space, one in entrants.items()}, self.data.emotions,
        )  # fmt: skip
        totals = TestClips.together(list(clips.values())).totals(len(self.data.emotions)).tolist()
        board = finalist_board(rows, totals)
        lines = [
            *caption(rows, totals, the_round, look, earlier, self.data.split.name),
            *verdicts(rows, totals),
        ]
        write_finalists(self.search.folder, board, lines, self.search.config)
        self.search.config["judged"] = {**facts_of(the_round), "at": look.at}
        run_folder.save(self.search.folder, self.search.config)
        self._export(the_round, rows, trials, board.to_dict("records"))
        return Outcome(board=board, lines=tuple(lines))

    def _enter_ledger(self, the_round: Round) -> tuple[Look, list[Look]]:
        """This look, and the earlier ones at the same test speakers."""
        folder, corpus = self.search.folder, self.data.corpus
        look = Look(
            at=datetime.now().astimezone().isoformat(timespec="seconds"),
            search_id=self.search.config["search_id"],
            round=the_round.number,
            manifest_hash=corpus.manifest_hash,
            splits=the_round.splits,
            emotions=self.data.emotions,
            finalists=tuple(candidate.name for candidate in the_round.candidates),
            seeds=the_round.seeds,
            forced=the_round.number > 1 and any(is_judged(one, folder) for one in read_rounds(folder)),
        )
        # one of several spaces can be judged alone, and then has to know of this look; as this one of its looks
        folders = dict.fromkeys([folder, *(entrant.search.folder for entrant in self.entrants)])
        return look, enter_everywhere(list(folders), corpus.folder, look, say=self._say)

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def _export(
        self,
        the_round: Round,
        rows: list[JudgedRow],
        trials: Mapping[str, Mapping[int, StudyTrial]],
        board: list[dict[Any, Any]],
    ) -> None:
        """``best/`` becomes the winner's best training on the search's own split; checkpoints are no longer needed."""
        own = self.data.split.name
        best = best_training(the_round, rows, trials[own])
        if best is not None:
            entrant = self._by_space()[next(row.space for row in rows if row.role == "finalist")]
            winner = next(row for row in board if row["role"] == "finalist")
            judged = {key: value for key, value in winner.items() if str(key).startswith("test_")}
            export_bundle(
                entrant.search, best, the_round.trial_plan(entrant.plan, self.search.folder, own), entrant.resources,
                {"search_id": self.search.config["search_id"], "trial_id": winner["name"], "judged_on_test": True,
                 "test": judged},
                folder=self.search.folder,
            )  # fmt: skip
        mark_judged(the_round, self.search.folder, rows)
        for split in the_round.splits:
            kept = the_round.split_folder(self.search.folder, split)
            for number in trials[split]:
                shutil.rmtree(checkpoint_file(kept, number).parent, ignore_errors=True)
                if self.search.storage is not None:
                    self.search.storage.remove(checkpoint_file(kept, number))


def _place_of_run(places: Sequence[int], number: int) -> tuple[int, int]:
    """As :data:`search.trial.PlaceOf`, where *places* names that of every training; all are numbered together."""
    return places[number], number


def check_can_be_judged(data: TaskData) -> None:
    """Refuse finalists on a split whose test part is empty.

    Raises:
        UserError: naming the split
    """
    labels = data.corpus.labels(data.emotions)
    if not (labels[data.split.indices("test")] >= 0).any():
        raise UserError(
            f"--finalists: the split {data.split.name} has no test clips in the corpus {data.corpus.name}, so "
            "finalists cannot be judged. Choose a --split whose test speakers are there (e.g. --split "
            "speaker_kfold:5:1), or leave --finalists out."
        )


def is_pending(search: AnySearch) -> bool:
    """Whether a finished search has still to train or judge finalists.

    Raises:
        UserError: a round's file is damaged
    """
    if not search.arguments.finalists:
        return False
    return search.arguments.force or not _is_last_judged(search.folder)


def _is_last_judged(folder: Path) -> bool:
    """Whether the last round of the search in *folder* was judged on test; not where there was none."""
    rounds = read_rounds(folder)
    return bool(rounds) and is_judged(rounds[-1], folder)


def check_not_judged(search: AnySearch) -> None:
    """Refuse finalists that are asked for anew, where the search has looked at its test speakers.

    Raises:
        UserError: when it looked, and at whom
    """
    if search.arguments.force or not _is_last_judged(search.folder):
        return
    judged = read_rounds(search.folder)[-1]
    names = ", ".join(candidate.name for candidate in judged.candidates)
    whose = search.config["search_id"], judged.number
    at = "".join(f" on {one.at}" for one in read_ledger(search.folder) if (one.search_id, one.round) == whose)
    raise UserError(
        f"the finalists of {search.folder} ({names}) were judged on test{at}: see "
        f"{search.folder / 'finalists.md'}. Whoever looks again and chooses turns test speakers into validation "
        "speakers. --force looks again, and says so on the board."
    )
