"""What a family reaches without a search: events of the record, and rows beside the trials."""

import math
from collections.abc import Iterable

from search.record import Event
from search.result_keys import SCORE
from ser_models.trial import Baseline

BASELINE = "baseline"  # an event of the record, and the origin of a row on the board
CLASSICAL_NAME = "statistics + SVM"  # of the baseline in ser_models.classical, which this does not import: torch
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
