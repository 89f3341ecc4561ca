"""Trials of a second and a half, of which early stopping cuts some."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 30
MAX_EPOCHS = 6
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.9}]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "epoch_seconds": 0.25}
