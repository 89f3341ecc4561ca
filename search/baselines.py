"""What a family reaches without a search: events of the record, and rows beside the trials."""

import math
from collections.abc import Iterable

from search.encoders import ENCODER
from search.record import Event
from search.result_keys import SCORE
from ser_models.trial import Baseline

BASELINE = "baseline"  # an event of the record, and the origin of a row on the board
CLASSICAL_NAME = "statistics + SVM"  # of the baseline in ser_models.classical, which this does not import: torch
CLASSICAL_ROW = CLASSICAL_NAME.split()[-1]
_NUMBERS = (SCORE, "val_accuracy", "val_macro_f1", "val_loss", "seconds")


def baselines_of(events: Iterable[Event]) -> list[Baseline]:
    """The baselines that a record tells of."""
    told = (event for event in events if event["kind"] == BASELINE)
    return [Baseline(event["name"], event["report"], event.get(ENCODER, "")) for event in told]


def baseline_event(baseline: Baseline) -> Event:
    """What a record says of a baseline."""
    of_several = {ENCODER: baseline.encoder} if baseline.encoder else {}
    return {"kind": BASELINE, "name": baseline.name, **of_several, "report": dict(baseline.report)}


def row_name(baseline: Baseline) -> str:
    """What the board calls a baseline in the column of the trials' names.

    >>> row_name(Baseline("linear probe", {})), row_name(Baseline("linear probe", {}, "microsoft/resnet-18"))
    ('probe', 'probe microsoft/resnet-18')
    """
    return " ".join(filter(None, (baseline.name.split()[-1], baseline.encoder)))


def check_baseline(baseline: Baseline) -> None:
    """Refuse one that cannot be ranked, before it is in the record.

    Raises:
        ValueError: a number is missing or not finite
    """
    for name in _NUMBERS:
        value = baseline.report.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the {baseline.title} has {name} = {value!r}, not a finite number")
