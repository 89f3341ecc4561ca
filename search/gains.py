"""What the best trial of a search gains over a baseline, in a sentence that says whether it is more than chance."""

import math
from collections.abc import Iterable

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
    sentences = []
    for baseline in baselines:
        difference = report[SCORE] - baseline.report[SCORE]
        verb = "loses {} against" if difference < 0 else "gains {} over"
        sentences.append(
            f"The best trial {best.trial_id} ({_short(report[SCORE])}) {verb.format(_signed(difference))} the "
            f"{baseline.title} ({_short(baseline.report[SCORE])}), "
            + _verdict(report.get(HITS), baseline.report.get(HITS), val_totals)
        )
    return sentences


def _verdict(hits: list[list[int]] | None, baseline_hits: list[list[int]] | None, totals: list[list[int]]) -> str:
    if not hits or not baseline_hits:
        return "without an interval: the right clips of each speaker are not known."
    low, high = uar_difference_interval(np.array(hits), np.array(baseline_hits), np.array(totals))
    if math.isnan(low):
        return "without an interval: one speaker says nothing of others."
    told = "not shown to differ"
    if low > 0:
        told = "a real gain on these speakers"
    elif high < 0:
        told = "a real loss on these speakers"
    return f"95 % over {len(totals)} speakers {_signed(low)} to {_signed(high)}: {told}."


def _short(score: float) -> str:
    return f"{score:.3f}".removeprefix("0")


def _signed(difference: float) -> str:
    """
    >>> _signed(0.021), _signed(-0.004), _signed(-1.0)
    ('+.021', '−.004', '−1.000')
    """
    return ("−" if round(difference, 3) < 0 else "+") + _short(abs(difference))
