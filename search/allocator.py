"""Which space gets the next trial of a search over several: the best prospect per cost, with a floor for each.

A function of what the trials reached and took so far, and of nothing else: replaying the record gives the same choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from search.study import StudyTrial

FLOOR = 0.1  # of all cost: what each space gets whatever its prospect
LEAST_TRIALS = 2  # of each space, before prospects are compared
_RECENT = 10  # trials that a prospect is judged by: the sampler learns, and its first trials say little of its next
_PRIOR_DEVIATION = 0.05  # of a space's scores, UAR: worth two trials
_PRIOR_TRIALS = 2


@dataclass(frozen=True)
class Member:
    """One of the spaces that share a budget.

    Attributes:
        space: its name
        trials: begun so far, in the order of their numbers
        start: trials that it gets before prospects are compared: its known-good configurations
        weight: share of the machine that one of its trials takes, in (0, 1]
    """

    space: str
    trials: Sequence[StudyTrial]
    start: int
    weight: float

    @property
    def cost(self) -> float:
        """What its trials took so far, in seconds of the whole machine."""
        return self.weight * sum(trial.seconds for trial in self.trials)

    @property
    def finished(self) -> list[StudyTrial]:
        """Trials that ended with a score, however early."""
        return [trial for trial in self.trials if trial.outcome in ("completed", "stopped") and trial.epochs]

    @property
    def cost_per_trial(self) -> float:
        """Of its recent finished trials, in seconds of the whole machine; NaN where there is none."""
        recent = self.finished[-_RECENT:]
        return self.weight * sum(trial.seconds for trial in recent) / len(recent) if recent else math.nan

    @property
    def best(self) -> float:
        return max((trial.best_score for trial in self.trials if trial.outcome != "failed"), default=-math.inf)


@dataclass(frozen=True)
class Choice:
    """Why a space got a trial.

    Attributes:
        space: which
        reason: ``start``, ``floor`` or ``prospect``
        prospects: by space, UAR that an hour of the whole machine is expected to add to the best score; only of spaces
            with a finished trial
    """

    space: str
    reason: str
    prospects: dict[str, float]


def choose(members: Sequence[Member], candidates: Sequence[str]) -> Choice:
    """The space that gets the next trial.

    Args:
        members: all that share the budget
        candidates: names of those that may start one now; not empty
    """
    found = prospects(members)
    able = [member for member in members if member.space in candidates]
    starting = [member for member in able if len(member.trials) < max(member.start, LEAST_TRIALS)]
    if starting:
        return Choice(min(starting, key=lambda member: len(member.trials)).space, "start", found)
    total = sum(member.cost for member in members)
    share = {member.space: (member.cost + _pending_cost(member)) / total if total else 0.0 for member in able}
    poorest = min(able, key=lambda member: share[member.space])
    if share[poorest.space] < min(FLOOR, 1 / len(members)):
        return Choice(poorest.space, "floor", found)
    return Choice(max(able, key=lambda member: found.get(member.space, 0.0)).space, "prospect", found)


def _pending_cost(member: Member) -> float:
    """What its running trials will still take, going by its finished ones."""
    running = [trial for trial in member.trials if trial.outcome is None]
    if not running or math.isnan(member.cost_per_trial):
        return 0.0
    done = member.weight * sum(trial.seconds for trial in running)
    return max(0.0, len(running) * member.cost_per_trial - done)


def prospects(members: Sequence[Member]) -> dict[str, float]:
    """Expected improvement of the best score per hour of the whole machine, by space.

    The next trial's score is taken to be normal, with mean and deviation of the space's recent ones; a prior deviation
    keeps two equal scores from looking certain. Trials that were stopped early count with what they reached and took:
    both belong to what a trial of the space is worth.

    Args:
        members: all that share the budget
    """
    best = max((member.best for member in members), default=-math.inf)
    found = {}
    for member in members:
        scores = [trial.best_score for trial in member.finished[-_RECENT:]]
        if scores:
            hours = max(member.cost_per_trial, 1e-3) / 3600
            found[member.space] = expected_improvement(scores, best) / hours
    return found


def expected_improvement(scores: Sequence[float], best: float) -> float:
    """By how much a further score is expected to exceed *best*.

    >>> round(expected_improvement([0.5, 0.5, 0.5], 0.5), 4)
    0.0141
    >>> expected_improvement([0.5, 0.5, 0.5], 0.7) < 1e-5
    True
    """
    mean = sum(scores) / len(scores)
    squares = sum((score - mean) ** 2 for score in scores) + _PRIOR_TRIALS * _PRIOR_DEVIATION**2
    deviation = math.sqrt(squares / (len(scores) - 1 + _PRIOR_TRIALS))
    normal, distance = NormalDist(), (mean - best) / deviation
    return deviation * (distance * normal.cdf(distance) + normal.pdf(distance))
