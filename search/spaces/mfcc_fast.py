"""The MFCC family in about a quarter of an hour on two cores: small networks, short trials.

``python search/run.py --space mfcc_fast --data $CREMA_D_ROOT``

Three kinds of network on 40 MFCC (statistics of them with Δ and ΔΔ), 15 epochs, rungs at 3 and 9. What it reached and
what early stopping saved: docs/experiments.md.

Ranges: learning rate a decade around AdamW's 1e-3 (Loshchilov & Hutter 2019, arXiv 1711.05101); dropout up to .5
(Srivastava et al. 2014); label smoothing 0 or .1 (Szegedy et al. 2016, arXiv 1512.00567); 3.5 s holds 95 % of
CREMA-D's clips whole (datasets/README.md).
"""

from search.parameters import Parameters, Value

FAMILY = "mfcc"
TRIALS = 16
MAX_EPOCHS = 15
GRACE = 3  # rungs at 3 and 9

_FIXED: dict[str, Value] = {
    "features": "mfcc",
    "num_coefficients": 40,
    "rms_normalise": False,
    "max_clip_seconds": 3.5,
    "activation": "relu",
    "optimiser": "adamw",
    "batch_size": 64,
    "schedule": "cosine",
    "class_weights": True,
}

KNOWN_GOOD: list[dict[str, Value]] = [
    {
        "network": "statistics_mlp", "hidden_units": 256, "hidden_layers": 1, "learning_rate": 1e-3, "dropout": 0.4,
        "weight_decay": 0.01, "label_smoothing": 0.1,
    },
    {
        "network": "cnn", "channels": 64, "blocks": 3, "pooling": "statistics", "learning_rate": 2e-3, "dropout": 0.3,
        "weight_decay": 0.01, "label_smoothing": 0.1, "spec_augment": True, "time_mask_frames": 15,
        "feature_mask_width": 6,
    },
]  # fmt: skip


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    network = trial.suggest_categorical("network", ("statistics_mlp", "cnn", "crnn"))
    config: dict[str, Value] = {
        **_FIXED,
        "network": network,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 5e-3, log=True),  # per step
        "dropout": trial.suggest_float("dropout", 0.1, 0.5),  # share of units
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        "label_smoothing": trial.suggest_categorical("label_smoothing", (0.0, 0.1)),
    }
    if network == "statistics_mlp":
        config["deltas"] = 2
        config["hidden_units"] = trial.suggest_categorical("hidden_units", (128, 256, 512))
        config["hidden_layers"] = trial.suggest_int("hidden_layers", 1, 2)
        return config
    config["deltas"] = 0  # a convolution over time finds its own
    config["channels"] = trial.suggest_categorical("channels", (32, 64))
    config["blocks"] = trial.suggest_int("blocks", 2, 3)
    config["kernel_size"] = 5
    config["pooling"] = trial.suggest_categorical("pooling", ("mean", "statistics", "attention"))
    if network == "crnn":
        config |= {"hidden_units": 64, "recurrent_layers": 1}
    config["spec_augment"] = trial.suggest_categorical("spec_augment", (False, True))
    config["waveform_views"] = 0
    if config["spec_augment"]:
        config |= {"time_masks": 2, "feature_masks": 2}
        config["time_mask_frames"] = trial.suggest_int("time_mask_frames", 5, 40)  # frames, of some 150 a clip
        config["feature_mask_width"] = trial.suggest_int("feature_mask_width", 2, 8)  # columns, of 40
    return config
