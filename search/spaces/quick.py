"""A first look in a minute or two: eight small MFCC trials, on generated or real speech.

``python search/run.py --space quick --data sample`` is what ``make search`` runs. It is for trying the search, not for
results: two kinds of network, few epochs, narrow ranges around values that worked.

Ranges: learning rate around 1e-3, AdamW's usual start (Loshchilov & Hutter 2019, arXiv 1711.05101); 40 coefficients
with Δ and ΔΔ and 3.5 s as in the notebooks this project replaces (docs/experiments.md).
"""

from search.parameters import Parameters, Value

FAMILY = "mfcc"
TRIALS = 8
MAX_EPOCHS = 12
GRACE = 2  # rungs at 2 and 6

_COMMON: dict[str, Value] = {
    "features": "mfcc",
    "num_coefficients": 40,
    "deltas": 2,
    "rms_normalise": False,
    "max_clip_seconds": 3.5,
    "activation": "relu",
    "optimiser": "adamw",
    "weight_decay": 0.01,
    "batch_size": 64,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "class_weights": True,
}

KNOWN_GOOD: list[dict[str, Value]] = [
    {"network": "statistics_mlp", "hidden_units": 128, "learning_rate": 1e-3, "dropout": 0.3},  # milliseconds an epoch
    {"network": "cnn", "channels": 64, "learning_rate": 1e-3, "dropout": 0.3},
]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    network = trial.suggest_categorical("network", ("statistics_mlp", "cnn"))
    config: dict[str, Value] = {
        **_COMMON,
        "network": network,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-3, log=True),  # per step, half a decade around
        "dropout": trial.suggest_float("dropout", 0.1, 0.5),  # share of units
    }
    if network == "statistics_mlp":
        config["hidden_units"] = trial.suggest_categorical("hidden_units", (64, 128, 256))
        config["hidden_layers"] = 1
    else:
        config["channels"] = trial.suggest_categorical("channels", (32, 64))
        config |= {"blocks": 2, "kernel_size": 5, "pooling": "statistics", "spec_augment": False, "waveform_views": 0}
    return config
