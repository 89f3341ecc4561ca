"""Early stopping that can be refilled: after a crash the rungs are rebuilt from what the trials reported.

A stopping rule sees each epoch of each trial once, in the order of the record, and says whether that trial stops.
It depends on nothing else, so replaying the record gives the same rungs as never having stopped.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from ser_data.errors import UserError


class StoppingRule(Protocol):
    """Says, epoch by epoch, which trials stop."""

    def report(self, number: int, epoch: int, score: float) -> str | None:
        """Take in one epoch of trial *number*.

        Args:
            number: the trial
            epoch: epochs trained, from 1
            score: the metric to be maximised, at this epoch

        Returns:
            why the trial stops here, in words, or None if it goes on
        """

    def completed(self, number: int) -> None:
        """Trial *number*, whose last epoch was reported, was through with it."""


class RungGroups:
    """A rule of its own for each group of trials that may be compared epoch by epoch.

    What an epoch is worth differs between kinds of network: one on statistics is at its best after two, one on frames
    still learns at twenty. Side by side at an early rung, the slow learner always loses, also where it ends higher.
    """

    def __init__(self, make: Callable[[], StoppingRule], group_of: Callable[[Mapping[str, Any]], str]) -> None:
        """Make a rule with *make* for each group that *group_of* finds in a trial's configuration."""
        self._make = make
        self._group_of = group_of
        self.rules: dict[str, StoppingRule] = {}

    def report(self, config: Mapping[str, Any], number: int, epoch: int, score: float) -> str | None:
        """As :meth:`StoppingRule.report`, among the trials of the configuration's group."""
        return self._rule(config).report(number, epoch, score)

    def completed(self, config: Mapping[str, Any], number: int) -> None:
        """As :meth:`StoppingRule.completed`, among the trials of the configuration's group."""
        self._rule(config).completed(number)

    def _rule(self, config: Mapping[str, Any]) -> StoppingRule:
        group = self._group_of(config)
        if group not in self.rules:
            self.rules[group] = self._make()
        return self.rules[group]


class NoStopping:
    """Every trial runs to its last epoch."""

    def report(self, number: int, epoch: int, score: float) -> str | None:
        return None

    def completed(self, number: int) -> None:
        """Nothing depends on it."""


def rung_epochs(grace: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace·η, grace·η², … below *max_epochs*.

    >>> rung_epochs(2, 3, 30)
    [2, 6, 18]
    """
    epochs = []
    epoch = grace
    while epoch < max_epochs:
        epochs.append(epoch)
        epoch *= reduction_factor
    return epochs


def rungs_reached(
    scheduler: str, *, grace: int, reduction_factor: int, max_epochs: int, number: int, epochs: int
) -> list[int]:
    """Epochs of the rungs that trial *number* reached in *epochs* epochs; none under a rule without rungs.

    >>> rungs_reached("asha", grace=2, reduction_factor=3, max_epochs=30, number=0, epochs=7)
    [2, 6]
    >>> rungs_reached("hyperband", grace=2, reduction_factor=3, max_epochs=30, number=1, epochs=7)
    [6]
    """
    if scheduler in ("median", "none"):
        return []
    rungs = rung_epochs(grace, reduction_factor, max_epochs)
    if scheduler == "hyperband" and rungs:
        rungs = rungs[number % len(rungs) :]
    return [rung for rung in rungs if rung <= epochs]


@dataclass
class Asha:
    """Asynchronous successive halving, stopping variant (Li et al. 2020, arXiv 1810.05934).

    At a rung a trial goes on if its best score so far is in the best 1/η of all that reached the rung. Unlike Ray's,
    it cuts nobody while fewer than η trials have reached the rung (there is no "best 1/η" of them yet), and it
    compares best-so-far instead of last scores, as the final ranking does.

    Attributes:
        grace: epochs before the first rung
        reduction_factor: η
        max_epochs: a trial's full length; there is no rung at it
    """

    grace: int
    reduction_factor: int
    max_epochs: int
    rungs: dict[int, dict[int, float]] = field(init=False)
    _best: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.grace <= self.max_epochs:
            raise UserError(
                f"--grace {self.grace} is out of range: a trial of this space has {self.max_epochs} epochs, so --grace "
                f"takes 1 to {self.max_epochs}."
            )
        self.rungs = {epoch: {} for epoch in rung_epochs(self.grace, self.reduction_factor, self.max_epochs)}

    def report(self, number: int, epoch: int, score: float) -> str | None:
        best = self._best[number] = max(score, self._best.get(number, score))
        rung = self.rungs.get(epoch)
        if rung is None or number in rung:
            return None
        rung[number] = best
        if len(rung) < self.reduction_factor:
            return None
        promoted = max(1, len(rung) // self.reduction_factor)
        cutoff = sorted(rung.values(), reverse=True)[promoted - 1]
        return None if best >= cutoff else f"rung {epoch}: {best:.3f} < {cutoff:.3f}"

    def completed(self, number: int) -> None:
        """Nothing depends on it."""


@dataclass
class CheckedAsha(Asha):
    """ASHA whose rungs have to prove themselves: one that ranks trials otherwise than their ends do stops cutting.

    Of the trials that a rung would cut, one in a few runs on to its end. They and those that were promoted say how well
    the rung's ranking agrees with the final one (Kendall's τ between the best score at the rung and at the end). A rung
    whose agreement is below ``_LEAST_AGREEMENT`` lets everybody pass until further ends show better; one that has
    proved itself is checked more rarely. What it gains where early scores mislead, and costs where they do not:
    benchmarks/fidelity.py.
    """

    _ends: dict[int, float] = field(init=False, default_factory=dict)
    _spared: set[int] = field(init=False, default_factory=set)
    _due: dict[int, int] = field(init=False, default_factory=dict)  # by rung: trials that it would have cut

    def report(self, number: int, epoch: int, score: float) -> str | None:
        cut = super().report(number, epoch, score)
        if cut is None or number in self._spared:
            return None
        agreement = self.agreement(epoch)
        if agreement is not None and agreement < _LEAST_AGREEMENT:
            return None
        due = self._due[epoch] = self._due.get(epoch, -1) + 1
        if due % (_CHECK_UNPROVED if agreement is None else _CHECK_PROVED) == 0:
            self._spared.add(number)
            return None
        return cut

    def completed(self, number: int) -> None:
        self._ends[number] = self._best[number]

    def agreement(self, epoch: int) -> float | None:
        """Kendall's τ of the rung at *epoch* with the ends of trials, None while too few have ended."""
        both = [(self.rungs[epoch][number], end) for number, end in self._ends.items() if number in self.rungs[epoch]]
        return kendall(both[-_LATEST_ENDS:]) if len(both) >= _FEWEST_ENDS else None


_FEWEST_ENDS = 5  # trials that have to end before a rung is judged
_LATEST_ENDS = 100  # trials that it is judged by: the sampler's early ones are of another kind
_LEAST_AGREEMENT = 0.4  # τ; two rankings of the same network's seeds agree better
_CHECK_UNPROVED, _CHECK_PROVED = 6, 12  # one in so many that would be cut runs on


def kendall(pairs: Sequence[tuple[float, float]]) -> float:
    """Kendall's τ-b in [-1, 1] of two rankings; 0 where one of them is all ties.

    >>> kendall([(1, 1), (2, 3), (3, 2)])
    0.3333333333333333
    """
    agreeing = first_apart = second_apart = 0
    for place, (a, b) in enumerate(pairs):
        for c, d in pairs[:place]:
            first, second = (a > c) - (a < c), (b > d) - (b < d)
            agreeing += first * second
            first_apart += first != 0
            second_apart += second != 0
    apart = math.sqrt(first_apart * second_apart)
    return agreeing / apart if apart else 0.0


@dataclass
class Hyperband:
    """Asynchronous Hyperband: several ASHA brackets, each with a longer grace; trials are dealt out in turn by number.

    Li et al. 2018 (arXiv 1603.06560). Safer than ASHA when early scores mislead, at a higher cost.
    """

    grace: int
    reduction_factor: int
    max_epochs: int
    brackets: list[Asha] = field(init=False)

    def __post_init__(self) -> None:
        first = Asha(self.grace, self.reduction_factor, self.max_epochs)
        graces = list(first.rungs) or [self.grace]
        self.brackets = [Asha(grace, self.reduction_factor, self.max_epochs) for grace in graces]

    def report(self, number: int, epoch: int, score: float) -> str | None:
        return self.brackets[number % len(self.brackets)].report(number, epoch, score)

    def completed(self, number: int) -> None:
        """Nothing depends on it."""


@dataclass
class MedianStopping:
    """Stops a trial whose best so far is below the median of the others' means up to the same epoch.

    Golovin et al. 2017 (Google Vizier). Compares at every epoch from *grace* on, against at least *min_peers* others.
    """

    grace: int
    min_peers: int = 3
    _scores: dict[int, list[float]] = field(init=False, default_factory=dict)

    def report(self, number: int, epoch: int, score: float) -> str | None:
        own = self._scores.setdefault(number, [])
        if epoch <= len(own):
            return None
        own.append(score)
        if epoch < self.grace:
            return None
        peers = [sum(s[:epoch]) / epoch for n, s in self._scores.items() if n != number and len(s) >= epoch]
        if len(peers) < self.min_peers or max(own) >= (cutoff := median(peers)):
            return None
        return f"epoch {epoch}: {max(own):.3f} < median {cutoff:.3f}"

    def completed(self, number: int) -> None:
        """Nothing depends on it."""


RULES: dict[str, Callable[[int, int, int], StoppingRule]] = {
    "asha": Asha,
    "checked-asha": CheckedAsha,
    "hyperband": Hyperband,
    "median": lambda grace, reduction_factor, max_epochs: MedianStopping(grace),
    "none": lambda grace, reduction_factor, max_epochs: NoStopping(),
}


LADDERS = ("asha", "checked-asha")  # rules with one set of rungs for all trials


def make_rule(name: str, *, grace: int, reduction_factor: int, max_epochs: int) -> StoppingRule:
    """The stopping rule called *name* in ``--scheduler``.

    Raises:
        UserError: if *grace* does not fit *max_epochs*
    """
    if name != "none" and not 1 <= grace <= max_epochs:
        Asha(grace, reduction_factor, max_epochs)  # words the error
    return RULES[name](grace, reduction_factor, max_epochs)
