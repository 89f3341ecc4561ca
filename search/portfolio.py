"""Several spaces that share one budget: a study each, and one that hands out what the allocator chooses.

:class:`Portfolio` answers what Ray's adapters ask of a study. Trials keep their numbers in their own study's record;
here a trial's number is its member's place times ``MEMBER_SPAN``, plus its own.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.allocator import Choice, Member, choose
from search.proposals import Proposal
from search.record import Record
from search.study import MACHINES, Study, StudyTrial
from search.trial import MEMBER_SPAN as SPAN

ALLOCATED = "allocated"  # an event: which space got a trial, and why


@dataclass(frozen=True)
class MemberStudy:
    """One space of a portfolio.

    Attributes:
        space: its name
        study: its own, without a bound on trials
        start: trials that it gets before prospects are compared
        cpus: cores of one of its trials
        gpus: GPUs of one of its trials
    """

    space: str
    study: Study
    start: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Machine:
    """What a portfolio runs on.

    Attributes:
        cpus: cores
        gpus: GPUs
        concurrent: trials at a time, None for as many as fit
    """

    cpus: int
    gpus: int
    concurrent: int | None = None


class Portfolio:
    """Hands out the trials of several studies, and passes what comes of them to the one that each belongs to."""

    def __init__(self, record: Record, members: Sequence[MemberStudy], machine: Machine, *, num_trials: int) -> None:
        """Go on from what the members' records say.

        Args:
            record: of the choices
            members: in a fixed order
            machine: whose cores and GPUs they share
            num_trials: of all members together
        """
        self._record = record
        self.members = tuple(members)
        self._machine = machine
        self._num_trials = num_trials
        self._live: set[int] = set()
        self._waiting = False
        self._record.append({"kind": "sitting", "at": round(time.time(), 3)})

    @property
    def trials(self) -> Mapping[int, StudyTrial]:
        """All trials by the number that they have here; a view that grows."""
        return _AllTrials(self.members)

    @property
    def num_begun(self) -> int:
        return sum(len(member.study.trials) for member in self.members)

    @property
    def remaining(self) -> int:
        """How many trials are still to be run, begun ones among them."""
        unfinished = sum(member.study.num_unfinished for member in self.members)
        return max(0, self._num_trials - self.num_begun) + unfinished

    @property
    def unfinished(self) -> bool:
        """Whether trials are left that did not end, or were not begun."""
        if any(trial.outcome is None for member in self.members for trial in member.study.trials.values()):
            return True
        return not self.exhausted and self.num_begun < self._num_trials

    @property
    def exhausted(self) -> bool:
        """Whether no space holds a configuration that was not tried."""
        return all(member.study.exhausted for member in self.members)

    @property
    def waiting(self) -> bool:
        """Whether the last time nothing was handed out only for want of cores or GPUs."""
        return self._waiting

    def note_machines(self, *, joined: int, left: int, concurrent: int, cpus: int, gpus: int) -> None:
        """As :meth:`search.study.Study.note_machines`; from now on the spaces share what there is now."""
        self._machine = Machine(cpus, gpus, self._machine.concurrent)
        event = {"kind": MACHINES, "joined": joined, "left": left, "concurrent": concurrent, "cpus": cpus, "gpus": gpus}
        self._record.append({**event, "at": round(time.time(), 3)})

    def next_trial(self) -> Proposal | None:
        """What to try next, trials of an earlier sitting first; None if nothing fits (:attr:`waiting`) or is left."""
        self._live = {number for number in self._live if self.trials[number].outcome is None}
        self._waiting = False
        for want_new in (False, True):
            while (index := self._choose(want_new=want_new)) is not None:
                proposal = self.members[index].study.next_trial()
                if proposal is None:
                    continue  # its grid has just come to its end
                number = index * SPAN + proposal.number
                self._live.add(number)
                return replace(proposal, number=number)
        return None

    def _choose(self, *, want_new: bool) -> int | None:
        """Index of the member that may hand out a trial now: a new one, or one of an earlier sitting."""
        if want_new:
            if self.num_begun >= self._num_trials:
                return None
            able = [member for member in self.members if not member.study.exhausted]
        else:
            able = [member for member in self.members if member.study.num_unfinished]
        fitting = self._fitting(able)
        self._waiting = self._waiting or bool(able and not fitting)
        if not fitting:
            return None
        if not want_new:
            return self.members.index(fitting[0])
        choice = choose(self._states(), [member.space for member in fitting])
        self._write_down(choice)
        return next(index for index, member in enumerate(self.members) if member.space == choice.space)

    def _fitting(self, able: Sequence[MemberStudy]) -> list[MemberStudy]:
        """Those whose trial would start at once. While a GPU is free for one of them, only those that use GPUs."""
        running = [self.members[number // SPAN] for number in self._live]
        if self._machine.concurrent is not None and len(running) >= self._machine.concurrent:
            return []
        cpus = self._machine.cpus - sum(member.cpus for member in running)
        gpus = self._machine.gpus - sum(member.gpus for member in running)
        fitting = [member for member in able if member.cpus <= cpus and member.gpus <= gpus + 1e-9]
        return [member for member in fitting if member.gpus] or fitting

    def _states(self) -> list[Member]:
        return [
            Member(member.space, list(member.study.trials.values()), member.start, self._weight(member))
            for member in self.members
        ]

    def _weight(self, member: MemberStudy) -> float:
        """Share of the machine that one trial takes: of its GPUs where it has some, else of its cores."""
        asked, there = (member.gpus, self._machine.gpus) if member.gpus else (member.cpus, self._machine.cpus)
        return asked / (there or 1)  # the last machine of its kind may have gone

    def _write_down(self, choice: Choice) -> None:
        found = {space: round(prospect, 6) for space, prospect in choice.prospects.items()}
        event = {"kind": ALLOCATED, "space": choice.space, "reason": choice.reason, "prospects": found}
        self._record.append({**event, "at": round(time.time(), 3)})

    def report(self, number: int, metrics: Mapping[str, Any]) -> bool:
        """As :meth:`search.study.Study.report`."""
        return self._study(number).report(number % SPAN, metrics)

    def fail(self, number: int, reason: str) -> None:
        """As :meth:`search.study.Study.fail`."""
        self._study(number).fail(number % SPAN, reason)

    def _study(self, number: int) -> Study:
        return self.members[number // SPAN].study

    def end(self, reason: str) -> None:
        """This sitting is over, for every member."""
        for member in self.members:
            member.study.end(reason)
        self._record.append({"kind": "ended", "reason": reason, "at": round(time.time(), 3)})


class _AllTrials(Mapping[int, StudyTrial]):
    def __init__(self, members: Sequence[MemberStudy]) -> None:
        self._members = members

    def __getitem__(self, number: int) -> StudyTrial:
        return self._members[number // SPAN].study.trials[number % SPAN]

    def __iter__(self) -> Iterator[int]:
        for index, member in enumerate(self._members):
            yield from (index * SPAN + number for number in list(member.study.trials))

    def __len__(self) -> int:
        return sum(len(member.study.trials) for member in self._members)
