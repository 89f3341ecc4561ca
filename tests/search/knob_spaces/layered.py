"""A space over an encoder, with a length for each trial and something to prepare."""

from search.parameters import Parameters, Value
from tests.search.layered_family import FAULTS

FAMILY = "layered"
TRIALS = 4
MAX_EPOCHS = 3
GRACE = 1
ENCODER = "tiny"
ENCODER_TYPES = ("wav2vec2",)
PREPARE = ("depth", "seconds")
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.25, "depth": 9, "seconds": 4.0, "epochs": 3, "fault": "none"}]


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration."""
    config: dict[str, Value] = {
        "x": trial.suggest_float("x", 0.0, 1.0),
        "depth": trial.suggest_int("depth", 0, num_layers),
        "seconds": trial.suggest_categorical("seconds", (2.0, 4.0)),
        "epochs": trial.suggest_int("epochs", 2, 3),
        "fault": trial.suggest_categorical("fault", tuple(FAULTS)),
    }
    if config["depth"] != 0:
        config["rate"] = trial.suggest_float("rate", 1e-5, 1e-3, log=True)
    return config
