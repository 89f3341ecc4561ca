"""The guard that every report of a trial passes: a missing key or a non-finite metric fails that trial by name.

Ray's ASHA neither stops a trial whose metric is NaN nor notices a misspelt ``time_attr``; both end here.
"""

import math
from collections.abc import Mapping
from typing import Any

from search.result_keys import (
    CACHE_HITS,
    CACHE_MISSES,
    EPOCH,
    EXTRAS,
    FACTS,
    GPU_MEMORY,
    HITS,
    LEARNING_RATE,
    METRICS,
    NUM_PARAMETERS,
)

_OPTIONAL = (HITS, NUM_PARAMETERS, LEARNING_RATE, GPU_MEMORY, CACHE_HITS, CACHE_MISSES)
#: Names that no fact or extra may have, those of the columns beside it in ``epochs.parquet`` among them.
RESERVED = frozenset({EPOCH, *METRICS, *_OPTIONAL, "trial_id", "number"})


class BadReport(Exception):
    """A trial reported something that cannot be ranked."""


def check_report(number: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """What of *report* goes into the record.

    Args:
        number: the trial's number, for the message
        report: as the trial sent it, with Ray's own keys among them

    Returns:
        epoch, the metrics, and what else of ours was reported, facts and extras each by its own name

    Raises:
        BadReport: a key is missing, the epoch is no positive whole number, a metric is not finite, or a fact or
            an extra has the name of something else
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
        if not _is_finite(value):
            raise BadReport(f"trial {number}, epoch {epoch}: {key} is {value!r}, not a finite number")
        checked[key] = value
    for key in _OPTIONAL:
        if key in report:
            checked[key] = report[key]
    for kind, named in (("a fact", dict(report.get(FACTS, ()))), ("an extra", dict(report.get(EXTRAS, ())))):
        taken = sorted(named.keys() & (RESERVED | checked.keys()))
        if taken:
            raise BadReport(f"trial {number} calls {kind} '{taken[0]}', which names something else in every report")
        wrong = [name for name, value in named.items() if kind == "an extra" and not _is_finite(value)]
        if wrong:
            raise BadReport(f"trial {number}, epoch {epoch}: {wrong[0]} is {named[wrong[0]]!r}, not a finite number")
        checked |= named
    return checked


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
