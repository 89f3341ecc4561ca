"""One search, without Ray: record, proposals and early stopping held together.

``Study`` answers three questions: what is tried next, does a trial stop at this epoch, what came of it. Whatever it
answers is in the record first. It always starts by replaying the record, so a first start, a resume and an extension
are the same code. Ray Tune is joined on in :mod:`search.tune_adapters`.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from optuna.trial import FrozenTrial, TrialState

from search.baselines import baseline_event, baselines_of
from search.parameters import Value
from search.proposals import Past, Proposal, SpaceExhausted, StudyJournal, finished_trials
from search.record import Event, Record
from search.reports import BadReport, check_report
from search.result_keys import EPOCH, SCORE
from search.rungs import RungGroups
from search.space import full_length
from ser_models.trial import Baseline

Outcome = Literal["completed", "stopped", "failed"]
RESOURCES = "resources"  # what a trial of this sitting takes
MACHINES = "machines"  # some joined the cluster or left it
FINAL_EVENTS = ("done", "stopped", "failed")  # after one of these a trial has its outcome
#: Called with the trial an event is about, after that event is on disk.
Listener = Callable[["StudyTrial", Event], None]

_STATES: dict[Outcome, TrialState] = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass
class StudyTrial:
    """What the record says of one trial.

    Attributes:
        number: from 0, in the order of proposals
        params: values of the searched parameters
        config: the whole configuration
        origin: ``known-good`` or the name of the sampler
        epochs: the checked report of each epoch, epoch 1 first
        outcome: None while the trial can still go on
        reason: why it was stopped or failed
        space: where it comes from, in a search over several spaces
        length: epochs after which it is through; 0 where only the record was read
    """

    number: int
    params: dict[str, Value]
    config: dict[str, Value]
    origin: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    outcome: Outcome | None = None
    reason: str = ""
    space: str = ""
    length: int = 0

    @property
    def trial_id(self) -> str:
        return f"t{self.number:04d}"

    @property
    def name(self) -> str:
        """``t0012``; in a search over several spaces ``SPACE/t0012``."""
        return f"{self.space}/{self.trial_id}" if self.space else self.trial_id

    @property
    def best_epoch(self) -> dict[str, Any] | None:
        """The report of the epoch with the best score; the first of equals."""
        return max(self.epochs, key=lambda report: report[SCORE], default=None)

    @property
    def best_score(self) -> float:
        best = self.best_epoch
        return float(best[SCORE]) if best else float("-inf")

    @property
    def scores(self) -> list[float]:
        return [report[SCORE] for report in self.epochs]

    @property
    def seconds(self) -> float:
        """Training and validation time of all epochs, in seconds."""
        return float(sum(report["seconds"] for report in self.epochs))


def trials_of(events: list[Event]) -> dict[int, StudyTrial]:
    """The trials that a record tells of, by number."""
    trials: dict[int, StudyTrial] = {}
    for event in events:
        _apply(trials, event)
    return trials


def best_of(trials: Iterable[StudyTrial]) -> StudyTrial | None:
    """The trial with the best score; the first of equals, and none that failed."""
    scored = [trial for trial in trials if trial.epochs and trial.outcome != "failed"]
    return max(scored, key=lambda trial: trial.best_score, default=None)


def _apply(trials: dict[int, StudyTrial], event: Event) -> None:
    kind = event["kind"]
    if kind == "suggested":
        trials[event["number"]] = StudyTrial(event["number"], event["params"], event["config"], event["origin"])
    elif kind == "epoch":
        trials[event["number"]].epochs.append(event["report"])
    elif kind in FINAL_EVENTS:
        trial = trials[event["number"]]
        trial.outcome = "completed" if kind == "done" else kind
        trial.reason = event.get("reason", "")


def seconds_used(events: list[Event]) -> float:
    """Wall time that all sittings of a search took so far, in seconds."""
    used = 0.0
    start = latest = 0.0
    for event in events:
        if event["kind"] == "sitting":
            used += latest - start
            start = event["at"]
        latest = event.get("at", latest)
    return used + latest - start


def gpu_seconds_by_trial(events: Iterable[Event]) -> dict[int, float]:
    """Seconds that the epochs of each trial of a record took, times the GPUs that a trial had then."""
    used: dict[int, float] = {}
    gpus = 0.0
    for event in events:
        if event["kind"] == RESOURCES:
            gpus = event["gpus"]
        elif event["kind"] == "epoch":
            used[event["number"]] = used.get(event["number"], 0.0) + gpus * event["report"]["seconds"]
    return used


def gpu_seconds_used(events: Iterable[Event]) -> float:
    """GPU time of all trials of a record together, in seconds."""
    return sum(gpu_seconds_by_trial(events).values())


class ProposalSource(Protocol):
    """Where configurations come from: :class:`search.proposals.Proposer`, or a fixed list of them."""

    @property
    def frozen_trials(self) -> list[FrozenTrial]:
        """Optuna's view of all trials, by number; empty where Optuna has no part."""

    def replay(self, past: Sequence[Past], order: Sequence[int]) -> None:
        """Put back the trials of a record, by number; *order* has each when it was asked for, and when it was told."""

    def ask(self) -> Proposal:
        """The next configuration."""

    def tell(self, number: int, scores: Sequence[float], state: TrialState) -> None:
        """What came of trial *number*."""


def put_back(proposer: ProposalSource, trials: Mapping[int, StudyTrial], events: Iterable[Event]) -> None:
    """Bring a new *proposer* where it was.

    Args:
        proposer: nothing was asked of it
        trials: of a record, by number
        events: of the same record
    """
    if sorted(trials) != list(range(len(trials))):
        raise AssertionError(f"the record skips a trial: it has {sorted(trials)}")
    past = []
    for _, trial in sorted(trials.items()):
        state = _STATES[trial.outcome] if trial.outcome else TrialState.RUNNING
        past.append(Past(trial.params, trial.scores, state))
    proposer.replay(past, [event["number"] for event in events if event["kind"] in ("suggested", *FINAL_EVENTS)])


class Study:
    """Record, proposals and early stopping of one search."""

    def __init__(
        self,
        record: Record,
        proposer: ProposalSource,
        rungs: RungGroups,
        *,
        num_trials: int,
        max_epochs: int | Sequence[int],
        journal: Callable[[list[Any]], StudyJournal] | None = None,
        space: str = "",
    ) -> None:
        """Replay *record* into *proposer* and *rungs*.

        Args:
            record: open, and ours alone
            proposer: new
            rungs: new
            num_trials: how many trials the search has in all, those of the record among them
            max_epochs: a trial's full length, where its configuration names no shorter one; by number where trials
                differ in it
            journal: makes Optuna's journal from the trials that have finished
            space: what its trials are told to come from, in a search over several spaces
        """
        self._record = record
        self._proposer = proposer
        self._rungs = rungs
        self._num_trials = num_trials
        self._max_epochs = max_epochs
        self._space = space
        self._exhausted = False
        self.listeners: list[Listener] = []
        self.trials: dict[int, StudyTrial] = {}
        self._journal: StudyJournal | None = None
        self._replay()
        self.gpu_seconds = gpu_seconds_used(record.events)
        self._gpus = 0.0
        self._append({"kind": "sitting"})
        self._unfinished = [number for number, trial in self.trials.items() if trial.outcome is None]
        if journal is not None:
            self._journal = journal(finished_trials(proposer.frozen_trials))

    def take_resources(self, cpus: float, gpus: float, measured: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write down what each trial takes from now on, so that GPU time can be counted, and by which measurement."""
        self._gpus = gpus
        event = {"kind": RESOURCES, "cpus": cpus, "gpus": gpus}
        self._append({**event, "measured": list(measured)} if measured else event)

    @property
    def measured(self) -> Sequence[Mapping[str, Any]]:
        """What was measured of trials and GPUs the last time."""
        found = [event["measured"] for event in self._record.events if "measured" in event]
        return found[-1] if found else ()

    def note_machines(self, *, joined: int, left: int, concurrent: int, cpus: int, gpus: int) -> None:
        """Write down that machines of the cluster came or went.

        Args:
            joined: how many did
            left: likewise
            concurrent: trials at a time from now on
            cpus: cores that there are for trials now
            gpus: GPUs, likewise
        """
        event = {"kind": MACHINES, "joined": joined, "left": left, "concurrent": concurrent, "cpus": cpus, "gpus": gpus}
        self._append(event)

    @property
    def waiting(self) -> bool:
        """Whether a trial that cannot be handed out now may be later; here everything may start at once."""
        return False

    @property
    def num_unfinished(self) -> int:
        """Trials of an earlier sitting that were not handed out again yet."""
        return len(self._unfinished)

    @property
    def remaining(self) -> int:
        """How many trials are still to be run, begun ones among them."""
        return max(0, self._num_trials - len(self.trials)) + len(self._unfinished)

    @property
    def exhausted(self) -> bool:
        """Whether the space holds no configuration that was not tried."""
        return self._exhausted

    @property
    def unfinished(self) -> bool:
        """Whether trials are left that did not end, or were not begun."""
        open_trials = any(trial.outcome is None for trial in self.trials.values())
        return open_trials or (not self._exhausted and len(self.trials) < self._num_trials)

    @property
    def best(self) -> StudyTrial | None:
        """The trial with the best score so far; the first of equals."""
        return best_of(self.trials.values())

    def next_trial(self) -> Proposal | None:
        """What to try next, trials of an earlier sitting that did not finish first; None when all were handed out."""
        if self._unfinished:
            trial = self.trials[self._unfinished.pop(0)]
            return Proposal(trial.number, trial.params, trial.config, trial.origin)
        if self._exhausted or len(self.trials) >= self._num_trials:
            return None
        try:
            proposal = self._proposer.ask()
        except SpaceExhausted:
            self._exhausted = True
            return None
        event = {
            "kind": "suggested",
            "number": proposal.number,
            "params": proposal.params,
            "config": proposal.config,
            "origin": proposal.origin,
        }
        self._commit(proposal.number, event)
        return proposal

    def report(self, number: int, metrics: Mapping[str, Any]) -> bool:
        """Take in what trial *number* reported.

        An epoch that is known already (a trial that starts again reports from its checkpoint on) is passed over.

        Returns:
            whether the trial is to stop: it finished, was cut, or reported something that cannot be ranked
        """
        trial = self.trials[number]
        if trial.outcome is not None:
            return True
        try:
            report = check_report(number, metrics)
            if report[EPOCH] > len(trial.epochs) + 1:
                raise BadReport(f"trial {number} reported epoch {report[EPOCH]} after epoch {len(trial.epochs)}")
        except BadReport as error:
            self.fail(number, str(error))
            return True
        if report[EPOCH] <= len(trial.epochs):
            return False
        self._commit(number, {"kind": "epoch", "number": number, "report": report})
        self.gpu_seconds += self._gpus * report["seconds"]
        self._judge(trial, self._rungs.report(trial.config, number, report[EPOCH], report[SCORE]))
        return trial.outcome is not None

    def fail(self, number: int, reason: str) -> None:
        """Trial *number* will not go on. It costs itself, not the search."""
        if self.trials[number].outcome is None:
            self._finish(number, {"kind": "failed", "number": number, "reason": reason})

    @property
    def baselines(self) -> list[Baseline]:
        """What the family reaches without a search, as far as it was computed."""
        return baselines_of(self._record.events)

    def add_baseline(self, baseline: Baseline) -> None:
        """Write down a baseline, once in the life of a search."""
        if all(known.title != baseline.title for known in self.baselines):
            self._append(baseline_event(baseline))

    def end(self, reason: str) -> None:
        """This sitting is over: ``trials``, ``time budget``, ``interrupted``."""
        self._append({"kind": "ended", "reason": reason})

    def _judge(self, trial: StudyTrial, cut: str | None) -> None:
        """Write down that *trial* is through, or that the rule cut it."""
        if len(trial.epochs) >= trial.length:
            self._rungs.completed(trial.config, trial.number)
            self._finish(trial.number, {"kind": "done", "number": trial.number})
        elif cut is not None:
            self._finish(trial.number, {"kind": "stopped", "number": trial.number, "reason": cut})

    def _finish(self, number: int, event: Event) -> None:
        self._commit(number, event)
        trial = self.trials[number]
        assert trial.outcome is not None
        self._proposer.tell(number, trial.scores, _STATES[trial.outcome])
        if self._journal is not None:
            self._journal.add(self._proposer.frozen_trials[number])

    def _commit(self, number: int, event: Event) -> None:
        self._append(event)
        self._take_in(event)
        for listener in self.listeners:
            listener(self.trials[number], event)

    def _take_in(self, event: Event) -> None:
        _apply(self.trials, event)
        if event["kind"] == "suggested":
            trial = self.trials[event["number"]]
            longest = self._max_epochs if isinstance(self._max_epochs, int) else self._max_epochs[trial.number]
            trial.space, trial.length = self._space, full_length(trial.config, longest)

    def _append(self, event: Event) -> None:
        self._record.append({**event, "at": round(time.time(), 3)})

    def _replay(self) -> None:
        cuts: dict[int, str | None] = {}
        for event in self._record.events:
            self._take_in(event)
            if event["kind"] == "epoch":
                report = event["report"]
                trial = self.trials[event["number"]]
                cuts[trial.number] = self._rungs.report(trial.config, trial.number, report[EPOCH], report[SCORE])
            elif event["kind"] == "done":
                self._rungs.completed(self.trials[event["number"]].config, event["number"])
        put_back(self._proposer, self.trials, self._record.events)
        # a kill between an epoch's event and the one that ends the trial: the judgement is still due
        for number, cut in cuts.items():
            if self.trials[number].outcome is None:
                self._judge(self.trials[number], cut)
