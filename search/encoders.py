"""The pretrained networks of a search, as the ``plan`` of its ``config.json`` has them: none, one, or several.

Of several, each trial has one: its configuration names it as ``encoder``, by the label that the board shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ENCODER = "encoder"  # in a configuration and in a plan: one
ENCODERS = "encoders"  # in a plan: several


def planned(encoders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a plan says of *encoders*, each as :func:`search.encoder_choice.describe` has it."""
    if len(encoders) > 1:
        return {ENCODERS: [dict(encoder) for encoder in encoders]}
    return {ENCODER: dict(encoders[0])} if encoders else {}


def encoders_of(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a plan says of its encoders, in their order; nothing where it has none."""
    return list(plan.get(ENCODERS, [plan[ENCODER]] if ENCODER in plan else []))


def encoder_of(plan: Mapping[str, Any], label: object) -> dict[str, Any] | None:
    """What a plan says of the encoder of one trial or baseline.

    Args:
        plan: of the search
        label: which of several it has; nothing depends on it where there is one or none

    Returns:
        None where the search has none, or where there are several and *label* is empty: a baseline without any
    """
    encoders = encoders_of(plan)
    if len(encoders) > 1:
        if not label:
            return None
        return next(encoder for encoder in encoders if encoder["label"] == label)
    return encoders[0] if encoders else None
