"""What a family reaches without a search: its rows beside the trials, and what the best trial gains over it."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from search.record import Event
from search.result_keys import HITS, SCORE
from ser_models.metrics import uar_difference_interval
from ser_models.trial import Baseline

if TYPE_CHECKING:
    from search.study import StudyTrial

BASELINE = "baseline"  # an event of the record, and the origin of a row on the board
_NUMBERS = (SCORE, "val_accuracy", "val_macro_f1", "val_loss", "seconds")


def baselines_of(events: Iterable[Event]) -> list[Baseline]:
    """The baselines that a record tells of."""
    return [Baseline(event["name"], event["report"]) for event in events if event["kind"] == BASELINE]


def row_name(baseline: Baseline) -> str:
    """What the board calls a baseline in the column of the trials' names.

    >>> row_name(Baseline("linear probe", {}))
    'probe'
    """
    return baseline.name.split()[-1]


def check_baseline(baseline: Baseline) -> None:
    """Refuse one that cannot be ranked, before it is in the record.

    Raises:
        ValueError: a number is missing or not finite
    """
    for name in _NUMBERS:
        value = baseline.report.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the {baseline.name} has {name} = {value!r}, not a finite number")


def gains(best: "StudyTrial | None", baselines: Iterable[Baseline], val_totals: list[list[int]]) -> list[str]:
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
            f"{baseline.name} ({_short(baseline.report[SCORE])}), "
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
