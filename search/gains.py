"""What one classifier gains over another on the same clips, in a sentence that says whether it is more than chance."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.result_keys import HITS, SCORE
from search.study import StudyTrial
from ser_models.metrics import uar_difference_interval
from ser_models.trial import Baseline


def gains(best: StudyTrial | None, baselines: Iterable[Baseline], val_totals: list[list[int]]) -> list[str]:
    """What the best trial gains over each baseline, in a sentence each that says whether it is more than chance.

    Args:
        best: the trial with the best score, None if there is none
        baselines: to compare it with
        val_totals: clips by validation speaker and emotion
    """
    report = best.best_epoch if best is not None else None
    if best is None or report is None:
        return []
    first = Compared(f"The best trial {best.trial_id}", report[SCORE], report.get(HITS))
    return [
        gain(first, Compared(f"the {baseline.title}", baseline.report[SCORE], baseline.report.get(HITS)), val_totals)
        for baseline in baselines
    ]


@dataclass(frozen=True)
class Compared:
    """One of two classifiers.

    Attributes:
        name: as a sentence calls it, with its article
        score: UAR
        hits: right clips by speaker and emotion, or their mean over several trainings; None where they are not known
    """

    name: str
    score: float
    hits: Any


def gain(first: Compared, second: Compared, totals: Any, *, speakers: str = "speakers") -> str:
    """What *first* gains over *second*, with a paired bootstrap over speakers.

    Args:
        first: begins the sentence
        second: what it is compared with
        totals: clips by speaker and emotion
        speakers: what they are called
    """
    difference = first.score - second.score
    verb = "loses {} against" if round(difference, 3) < 0 else "gains {} over"
    return (
        f"{first.name} ({_short(first.score)}) {verb.format(_signed(difference))} {second.name} "
        f"({_short(second.score)}), " + _verdict(first.hits, second.hits, totals, speakers)
    )


def _verdict(hits: Any, other_hits: Any, totals: Any, speakers: str) -> str:
    if hits is None or other_hits is None or not len(hits) or not len(other_hits):
        return "without an interval: the right clips of each speaker are not known."
    low, high = uar_difference_interval(np.array(hits), np.array(other_hits), np.array(totals))
    if math.isnan(low):
        return "without an interval: one speaker says nothing of others."
    told = "not shown to differ"
    if low > 0:
        told = "a real gain on these speakers"
    elif high < 0:
        told = "a real loss on these speakers"
    return f"95 % over {len(totals)} {speakers} {_signed(low)} to {_signed(high)}: {told}."


def _short(score: float) -> str:
    return f"{score:.3f}".removeprefix("0")


def _signed(difference: float) -> str:
    """
    >>> _signed(0.021), _signed(-0.004), _signed(-1.0)
    ('+.021', '−.004', '−1.000')
    """
    return ("−" if round(difference, 3) < 0 else "+") + _short(abs(difference))
