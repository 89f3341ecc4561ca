"""The searcher: a thin layer over Optuna's ask and tell that knows fidelity, parallel trials and replay.

* A trial that was stopped early is told as PRUNED with its intermediate values, so that TPE ranks it by the step it
  reached; Ray's OptunaSearch tells it as COMPLETE with a half-trained score.
* Each proposal has a generator of its own, f(seed, trial number): proposal 57 is the same after a crash as without.
  Samplers that keep a state are asked again for what the record holds, to the same end.
* Known-good configurations go first, in define-by-run spaces too.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.parameters import Value
from search.space import Space
from search.tpe import Tpe
from ser_data.errors import UserError
from ser_data.seeds import derive_seed

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Grid(optuna.samplers.BruteForceSampler):
    """Optuna's, without the call that ends Optuna's own loop when all is tried: here there is none, and it raises."""

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Nothing: :meth:`Proposer.ask` notices."""


class _Sequence(optuna.samplers.QMCSampler):
    """Optuna's, with the trial's number as the place in the sequence: its own counter would start again on a resume."""

    def _find_sample_id(self, study: optuna.Study, search_space: Mapping[str, Any]) -> int:
        return len(study.get_trials(deepcopy=False)) - 1


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # n_startup_trials: below ten, TPE fits a density to noise (Optuna's default, Bergstra 2011 used 20)
    "tpe": lambda seed: Tpe(seed=seed, multivariate=True, group=True, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: _Sequence(seed=seed, scramble=True, warn_independent_sampling=False),
    "grid": lambda seed: _Grid(seed=seed),
}
#: Samplers that keep a state of their own between proposals, and so may not be made anew for each.
STATEFUL = ("cmaes", "qmc", "grid")


@dataclass(frozen=True)
class Past:
    """What a record says of a trial.

    Attributes:
        params: values of the searched parameters
        scores: score of each epoch, from epoch 1
        state: COMPLETE, PRUNED or FAIL; RUNNING for a trial that will go on
    """

    params: Mapping[str, Value]
    scores: Sequence[float]
    state: TrialState


@dataclass(frozen=True)
class Proposal:
    """One configuration to try.

    Attributes:
        number: the trial's number, ours and Optuna's
        params: values of the searched parameters
        config: the whole configuration that a trial is built from
        origin: ``known-good`` or the sampler's name
    """

    number: int
    params: dict[str, Value]
    config: dict[str, Value]
    origin: str


class SpaceExhausted(Exception):
    """Every configuration of a grid was proposed."""


class Proposer:
    """Proposes configurations of one space and learns from what came of them."""

    def __init__(self, space: Space, *, sampler: str, seed: int, study_name: str) -> None:
        self._space = space
        self._sampler_name = sampler
        self._seed = seed
        self._study_name = study_name
        self._begin()

    def _begin(self) -> None:
        self._study = optuna.create_study(study_name=self._study_name, direction="maximize", sampler=self._sampler(0))
        self._asked_known_good = False

    def _sampler(self, number: int) -> BaseSampler:
        seed = self._seed if self._sampler_name in STATEFUL else derive_seed(self._seed, "sampler", number)
        with warnings.catch_warnings():
            # TPE's group and others are marked experimental; we know, and a user cannot act on it
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return SAMPLERS[self._sampler_name](seed)

    @property
    def frozen_trials(self) -> list[FrozenTrial]:
        """Optuna's view of all trials, by number."""
        return self._study.get_trials(deepcopy=False)

    def replay(self, past: Sequence[Past], order: Sequence[int]) -> None:
        """Put back the trials of a record, before the first one is asked for.

        A sampler that keeps a state is asked and told again what it was asked and told then, which brings it where it
        was. Where it proposes otherwise than the record says (that of a version or a machine that computes
        otherwise), it begins anew with the record's trials, as one without a state always does.

        Args:
            past: by number
            order: each trial's number where it was asked for, and once more where it was told
        """
        if self._sampler_name in STATEFUL:
            if self._asks_again(past, order):
                return
            self._begin()
        for trial in past:
            self._study.add_trial(self._frozen(trial))

    def _asks_again(self, past: Sequence[Past], order: Sequence[int]) -> bool:
        """Ask and tell as *order* says; whether all proposals were those of the *past*."""
        asked: set[int] = set()
        for number in order:
            if number in asked:
                self.tell(number, past[number].scores, past[number].state)
                continue
            asked.add(number)
            try:
                proposal = self.ask()
            except SpaceExhausted:
                return False
            if (proposal.number, proposal.params) != (number, past[number].params):
                return False
        return True

    def _frozen(self, trial: Past) -> FrozenTrial:
        asked = optuna.trial.FixedTrial(dict(trial.params))
        self._space.configure(asked)
        value = max(trial.scores) if trial.state == TrialState.COMPLETE else None
        if trial.state == TrialState.PRUNED and trial.scores:
            value = trial.scores[-1]  # as Optuna itself notes for a trial that it is told is pruned
        return optuna.trial.create_trial(
            state=trial.state,
            params=asked.params,
            distributions=asked.distributions,
            intermediate_values=dict(enumerate(trial.scores, start=1)),
            value=value,
        )

    def ask(self) -> Proposal:
        """The next configuration.

        Raises:
            SpaceExhausted: the grid has no further configuration
            UserError: the sampler cannot work on this space
        """
        self._enqueue_known_good()
        queued = any(trial.state == TrialState.WAITING for trial in self.frozen_trials)
        if self._sampler_name not in STATEFUL:
            self._study.sampler = self._sampler(len(self.frozen_trials))
        trial = self._study.ask()
        try:
            config = self._space.configure(trial)
        except ValueError as error:
            if self._sampler_name == "grid" and "step" in str(error):
                raise UserError(
                    f"--sampler grid cannot enumerate the space {self._space.name}: it has continuous parameters "
                    f"({error}). Pin them with --fix NAME=VALUE, or take tpe, random or qmc."
                ) from error
            raise
        if self._sampler_name == "grid" and any(
            other.params == trial.params for other in self.frozen_trials[: trial.number]
        ):
            self._study.tell(trial, state=TrialState.FAIL)
            raise SpaceExhausted  # it only repeats itself when nothing else is left
        return Proposal(trial.number, dict(trial.params), config, "known-good" if queued else self._sampler_name)

    def _enqueue_known_good(self) -> None:
        if self._asked_known_good:
            return
        self._asked_known_good = True
        for configuration in self._space.start_configurations()[len(self.frozen_trials) :]:
            self._study.enqueue_trial(dict(configuration))

    def tell(self, number: int, scores: Sequence[float], state: TrialState) -> None:
        """What came of trial *number*.

        Args:
            number: as proposed
            scores: score of each epoch, from epoch 1
            state: COMPLETE (ran to its last epoch), PRUNED (stopped early) or FAIL
        """
        trial = optuna.trial.Trial(self._study, self.frozen_trials[number]._trial_id)
        told = self.frozen_trials[number].intermediate_values
        for epoch, score in enumerate(scores, start=1):
            if epoch not in told:
                trial.report(score, epoch)
        if state == TrialState.PRUNED and not scores:
            state = TrialState.FAIL
        self._study.tell(number, max(scores) if state == TrialState.COMPLETE else None, state)


class StudyJournal:
    """``study.journal``: the finished trials in Optuna's own format, for optuna-dashboard. A view; nothing reads it."""

    def __init__(self, path: Path, study_name: str, finished: Sequence[FrozenTrial]) -> None:
        """Write the journal anew with the trials that have *finished*."""
        # Optuna's journal does not survive a torn line, and a lock left by a killed process costs 30 s: begin clean
        for stale in path.parent.glob(f"{path.name}*"):
            stale.unlink()
        self._study = optuna.create_study(
            study_name=study_name, direction="maximize", storage=JournalStorage(JournalFileBackend(str(path)))
        )
        self._study.add_trials(finished)

    def add(self, trial: FrozenTrial) -> None:
        self._study.add_trial(trial)


def finished_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of *trials* with a final state."""
    return [trial for trial in trials if trial.state.is_finished()]
