"""The finalists: the best trials of a search, trained again with several seeds.

A round of finalists is a second, small search over a fixed list of configurations, with a record of its own for every
split that it runs on (``RUN/finalists/round-1/SPLIT/events.jsonl``), so that it survives what a search survives. What
becomes of it on test is in :mod:`search.finalists.judging`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from search.parameters import Value
from search.proposals import Past, Proposal
from search.run_folder import RECORD_FILE, write_atomically
from search.study import StudyTrial
from search.trial_plan import TrialPlan
from ser_data.errors import UserError
from ser_data.seeds import derive_seed

FOLDER = "finalists"
ROUND_FILE = "round.json"
DEFAULT_SEEDS = 3
FINALIST, SEED = "finalist", "seed"  # parameters of a training in its round's record
Role = Literal["finalist", "default"]


@dataclass(frozen=True)
class Candidate:
    """A configuration that is trained again.

    Attributes:
        name: the trial that it was, ``t0012``; of several spaces ``SPACE/t0012``
        role: ``finalist``, one of the best; or ``default``, the first known-good configuration of a finalist's space,
            to compare with
        config: the whole configuration
        is_default: whether it is its space's first known-good configuration, whatever its role
        space: where it comes from, in a search over several spaces
    """

    name: str
    role: Role
    config: dict[str, Value]
    is_default: bool = False
    space: str = ""

    def is_like(self, trial: StudyTrial) -> bool:
        """Whether *trial* had the same configuration, of the same space."""
        return (self.space, self.config) == (trial.space, trial.config)


@dataclass(frozen=True)
class Round:
    """What is trained and judged together. Written down before it begins.

    Attributes:
        number: from 1; a second one is a second look at the test speakers
        candidates: the best first
        seeds: trainings of each candidate on each split
        splits: on which; several where all folds are run
    """

    number: int
    candidates: tuple[Candidate, ...]
    seeds: int
    splits: tuple[str, ...]

    @property
    def runs(self) -> list[tuple[Candidate, int]]:
        """Every training on one split, with its seed's number from 1: first all candidates once."""
        return [(candidate, seed) for seed in range(1, self.seeds + 1) for candidate in self.candidates]

    def folder(self, run_folder: Path) -> Path:
        return run_folder / FOLDER / f"round-{self.number}"

    def split_folder(self, run_folder: Path, split: str) -> Path:
        """Where the trainings on *split* keep their record and their checkpoints."""
        return self.folder(run_folder) / split.replace(":", "-")

    def record_file(self, run_folder: Path, split: str) -> Path:
        return self.split_folder(run_folder, split) / RECORD_FILE

    def trial_plan(self, plan: TrialPlan, run_folder: Path, split: str, *, judged: str = "validation") -> TrialPlan:
        """*plan*, of the search's trials, for the trainings on *split*."""
        name = self.split_folder(Path(), split).as_posix()
        return replace(
            plan,
            run_folder=str(self.split_folder(run_folder, split).resolve()),
            files=None if plan.files is None else replace(plan.files, name=name),
            task={**plan.task, "split": split, "judged": judged},
            seed=derive_seed(plan.seed, "finalists", self.number),
            corners=(),
        )


def choose_candidates(trials: Iterable[StudyTrial], count: int) -> tuple[Candidate, ...]:
    """The *count* best trials of different configurations, and their spaces' defaults that are not among them.

    Args:
        trials: of the search, space by space in the order of numbers, of equals the first is taken; failed ones and
            those without a score cannot be chosen
        count: how many finalists, or as many as there are
    """
    scored = [trial for trial in trials if trial.epochs and trial.outcome != "failed"]
    chosen: list[Candidate] = []
    for trial in sorted(scored, key=lambda trial: -trial.best_score):
        if len(chosen) < count and not any(other.is_like(trial) for other in chosen):
            chosen.append(Candidate(trial.name, "finalist", trial.config, _is_default(trial), trial.space))
    spaces = {candidate.space for candidate in chosen}  # the winner's default is compared with, and one of them wins
    chosen += [
        Candidate(trial.name, "default", trial.config, True, trial.space)
        for trial in filter(_is_default, scored)
        if trial.space in spaces and not any(other.is_like(trial) for other in chosen)
    ]
    return tuple(chosen)


def _is_default(trial: StudyTrial) -> bool:
    return trial.number == 0 and trial.origin == "known-good"


def read_rounds(run_folder: Path) -> list[Round]:
    """The rounds that a search began, oldest first.

    Raises:
        UserError: one is damaged
    """
    rounds = []
    for path in (run_folder / FOLDER).glob(f"round-*/{ROUND_FILE}"):
        try:
            stored = json.loads(path.read_text())
            candidates = tuple(Candidate(**candidate) for candidate in stored["candidates"])
            rounds.append(Round(stored["number"], candidates, stored["seeds"], tuple(stored["splits"])))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path} is damaged ({error}). It says what the finalists are: restore it from a copy, or remove the "
                f"folder {path.parent} to train them anew."
            ) from error
    return sorted(rounds, key=lambda found: found.number)


def next_round(rounds: Sequence[Round], wanted: Round, *, judged: bool) -> Round:
    """The last round, if it is what is wanted and was not judged yet; else a new one with the next number.

    Args:
        rounds: from :func:`read_rounds`
        wanted: with any number
        judged: whether the last of *rounds* was judged on test
    """
    if rounds and not judged and replace(rounds[-1], number=wanted.number) == wanted:
        return rounds[-1]
    return replace(wanted, number=len(rounds) + 1)


def write_round(run_folder: Path, the_round: Round) -> None:
    """Make the round's folders, and write down what it is."""
    for split in the_round.splits:
        the_round.split_folder(run_folder, split).mkdir(parents=True, exist_ok=True)
    write_atomically(the_round.folder(run_folder) / ROUND_FILE, json.dumps(asdict(the_round), indent=2) + "\n")


class FixedProposals:
    """A round's trainings, handed out in their order; what comes of them changes nothing."""

    def __init__(self, the_round: Round) -> None:
        self._runs = the_round.runs
        self._handed_out = 0

    @property
    def frozen_trials(self) -> list[FrozenTrial]:
        """None: Optuna has no part in it."""
        return []

    def replay(self, past: Sequence[Past], order: Sequence[int]) -> None:
        """Pass over trainings that were handed out before."""
        self._handed_out = len(past)

    def ask(self) -> Proposal:
        """The next training."""
        candidate, seed = self._runs[self._handed_out]
        self._handed_out += 1
        params: dict[str, Value] = {FINALIST: candidate.name, SEED: seed}
        return Proposal(self._handed_out - 1, params, candidate.config, candidate.role)

    def tell(self, number: int, scores: Sequence[float], state: TrialState) -> None:
        """Nothing is learned."""


def name_of_run(trial: StudyTrial) -> str:
    """What a training of a round is called, whose own number says nothing to anybody."""
    return f"{trial.params[FINALIST]}, seed {trial.params[SEED]}"


def runs_of(the_round: Round, trials: Mapping[int, StudyTrial]) -> dict[tuple[str, int], StudyTrial]:
    """The trainings on one split by candidate's name and seed, those that have a score.

    Args:
        the_round: whose
        trials: of the split's record
    """
    named = {(candidate.name, seed): number for number, (candidate, seed) in enumerate(the_round.runs)}
    found = {key: trials[number] for key, number in named.items() if number in trials}
    return {key: trial for key, trial in found.items() if trial.epochs and trial.outcome != "failed"}


def facts_of(the_round: Round) -> dict[str, Any]:
    """What the ledger and ``config.json`` say of a round."""
    return {
        "round": the_round.number,
        "finalists": [candidate.name for candidate in the_round.candidates],
        "seeds": the_round.seeds,
        "splits": list(the_round.splits),
    }
