"""A trial that hangs, one that runs out of memory, and two without a fault."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 4
MAX_EPOCHS = 3
GRACE = 1
# the first and the last choice make up the corners of the space, which have to train
CHOICES = ("none", "hangs", "out_of_memory", "nothing")  # "nothing" does none
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.1 + 0.1 * place, "fault": fault} for place, fault in enumerate(CHOICES)]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "fault": trial.suggest_categorical("fault", CHOICES)}
