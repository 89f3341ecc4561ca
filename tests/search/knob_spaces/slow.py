"""Epochs long enough for a search to be interrupted in the middle of a trial."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 6
MAX_EPOCHS = 4
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = []


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "epoch_seconds": 0.25}
