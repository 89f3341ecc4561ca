"""A space whose largest configuration cannot be built."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 4
MAX_EPOCHS = 3
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.25, "fault": "none"}]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {
        "x": trial.suggest_float("x", 0.0, 1.0),
        "fault": trial.suggest_categorical("fault", ("none", "never_builds")),
    }
