"""One configuration for each thing that can go wrong with a trial, and one where nothing does."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 6
MAX_EPOCHS = 3
GRACE = 1
# the first and the last choice make up the corners of the space, which have to train
CHOICES = ("none", "raises", "nan", "no_score", "worker_dies_once", "ends_early", "nothing")  # "nothing" does none
KNOWN_GOOD: list[dict[str, Value]] = [
    {"x": 0.1 + 0.1 * number, "fault": fault} for number, fault in enumerate(CHOICES[:-1])
]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "fault": trial.suggest_categorical("fault", CHOICES)}
