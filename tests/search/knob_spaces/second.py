"""Another space of one parameter, whose trials are shorter; none is as good as the best of ``plain``."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 3
MAX_EPOCHS = 2
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.9}]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.8, 1.0)}
