"""One parameter and nothing that goes wrong."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 4
MAX_EPOCHS = 3
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.25}]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0)}
