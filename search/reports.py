"""The guard that every report of a trial passes: a missing key or a non-finite metric fails that trial by name.

Ray's ASHA neither stops a trial whose metric is NaN nor notices a misspelt ``time_attr``; both end here.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.result_keys import EPOCH, FACTS, HITS, METRICS, NUM_PARAMETERS

#: Names that a fact of a trial may not have, those of the columns beside it in ``epochs.parquet`` among them.
RESERVED = frozenset({EPOCH, *METRICS, HITS, NUM_PARAMETERS, "learning_rate", "trial_id", "number"})


class BadReport(Exception):
    """A trial reported something that cannot be ranked."""


def check_report(number: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """What of *report* goes into the record.

    Args:
        number: the trial's number, for the message
        report: as the trial sent it, with Ray's own keys among them

    Returns:
        epoch, the metrics, and what else of ours was reported, the trial's facts each by its own name

    Raises:
        BadReport: a key is missing, the epoch is no positive whole number, a metric is not finite, or a fact has the
            name of something else
    """
    missing = [key for key in (EPOCH, *METRICS) if key not in report]
    if missing:
        raise BadReport(f"trial {number} reported no {', '.join(missing)} (got: {', '.join(sorted(report))})")
    epoch = report[EPOCH]
    if not isinstance(epoch, int) or epoch < 1:
        raise BadReport(f"trial {number} reported epoch {epoch!r}; epochs are whole numbers from 1")
    checked: dict[str, Any] = {EPOCH: epoch}
    for key in METRICS:
        value = report[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadReport(f"trial {number}, epoch {epoch}: {key} is {value!r}, not a finite number")
        checked[key] = value
    for key in (HITS, NUM_PARAMETERS, "learning_rate"):
        if key in report:
            checked[key] = report[key]
    facts = dict(report.get(FACTS, ()))
    taken = sorted(facts.keys() & RESERVED)
    if taken:
        raise BadReport(f"trial {number} calls a fact '{taken[0]}', which names something else in every report")
    return checked | facts
