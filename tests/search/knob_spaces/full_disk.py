"""Three trials, of which the second finds the disk full once."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 3
MAX_EPOCHS = 3
GRACE = 1
CHOICES = ("none", "disk_full_once", "nothing")
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.1 + 0.1 * place, "fault": fault} for place, fault in enumerate(CHOICES)]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "fault": trial.suggest_categorical("fault", CHOICES)}
