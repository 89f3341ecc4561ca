"""The whole MFCC family: five kinds of network, features, optimisers, regularisation and augmentation.

``python search/run.py --space mfcc_full --data $CREMA_D_ROOT --time-budget 60m``

An hour on two cores tries some dozens of configurations; --trials gives it more. What it reached:
docs/experiments.md.

Ranges:

* features: 40 MFCC with Δ and ΔΔ, or 13 MFCC with chroma, centroid and bandwidth, as in the notebooks this replaces;
  fewer coefficients and no deltas are slices of the same cached file
* ``max_clip_seconds``: CREMA-D's median is 2.5 s, 95 % end before 3.5 s, all but one in a thousand before 5 s
* ``learning_rate``, ``weight_decay``: a decade around AdamW's usual 1e-3 and .01 (Loshchilov & Hutter 2019, arXiv
  1711.05101); the same rates serve Adam and RMSprop, SGD has its own
* ``dropout``: up to .6 (Srivastava et al. 2014 recommend .5 for hidden units)
* ``label_smoothing``: up to .2 around Szegedy et al. 2016's .1 (arXiv 1512.00567)
* SpecAugment: mask widths up to a quarter of a clip and a fifth of the columns, two of each (Park et al. 2019, arXiv
  1904.08779, use two of each)
* activations and optimisers: those of the notebooks, with GELU and SiLU
"""

from search.parameters import Parameters, Value

FAMILY = "mfcc"
TRIALS = 60
MAX_EPOCHS = 30  # networks on frames still gain at 20
GRACE = 5  # rungs at 5 and 15

_COMMON: dict[str, Value] = {
    "features": "mfcc",
    "num_coefficients": 40,
    "rms_normalise": False,
    "activation": "relu",
    "optimiser": "adamw",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "class_weights": True,
}
_MLP: dict[str, Value] = {
    **_COMMON,
    "network": "statistics_mlp",
    "deltas": 2,
    "max_clip_seconds": 5.0,
    "hidden_units": 256,
    "hidden_layers": 1,
    "dropout": 0.4,
    "learning_rate": 1e-3,
    "batch_size": 64,
}
_CNN: dict[str, Value] = {
    **_COMMON,
    "network": "cnn",
    "deltas": 0,
    "max_clip_seconds": 3.5,
    "channels": 64,
    "blocks": 3,
    "kernel_size": 5,
    "pooling": "statistics",
    "dropout": 0.3,
    "learning_rate": 2e-3,
    "batch_size": 32,
    "spec_augment": True,
    "time_mask_frames": 15,
    "feature_mask_width": 6,
    "waveform_views": 0,
}

KNOWN_GOOD: list[dict[str, Value]] = [
    _MLP,
    _CNN,
    {**_CNN, "network": "crnn", "recurrent_units": 64},
]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    network = trial.suggest_categorical("network", ("statistics_mlp", "cnn", "crnn", "crnn_attention", "bilstm"))
    config: dict[str, Value] = {
        "network": network,
        **_features(trial),
        "activation": trial.suggest_categorical("activation", ("relu", "gelu", "silu", "elu")),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),  # share of units
        **_training(trial),
    }
    if network == "statistics_mlp":
        config["hidden_units"] = trial.suggest_categorical("hidden_units", (64, 128, 256, 512))
        config["hidden_layers"] = trial.suggest_int("hidden_layers", 1, 3)
        return config
    if network != "bilstm":
        config["channels"] = trial.suggest_categorical("channels", (32, 64, 96, 128))
        config["blocks"] = trial.suggest_int("blocks", 2, 4)
        config["kernel_size"] = trial.suggest_categorical("kernel_size", (3, 5, 7))
    if network != "cnn":
        config["hidden_units"] = trial.suggest_categorical("recurrent_units", (32, 64, 128))
        config["recurrent_layers"] = 1 if network != "bilstm" else trial.suggest_int("recurrent_layers", 1, 2)
    if network != "crnn_attention":
        config["pooling"] = trial.suggest_categorical("pooling", ("mean", "max", "statistics", "attention"))
    return config | _augmentation(trial)


def _features(trial: Parameters) -> dict[str, Value]:
    features = trial.suggest_categorical("features", ("mfcc", "hybrid"))
    config: dict[str, Value] = {
        "features": features,
        "rms_normalise": trial.suggest_categorical("rms_normalise", (False, True)),
        "max_clip_seconds": trial.suggest_categorical("max_clip_seconds", (2.5, 3.5, 5.0)),
    }
    if features == "mfcc":
        config["num_coefficients"] = trial.suggest_categorical("num_coefficients", (13, 20, 40))
        config["deltas"] = trial.suggest_int("deltas", 0, 2)
    return config


def _training(trial: Parameters) -> dict[str, Value]:
    optimiser = trial.suggest_categorical("optimiser", ("adamw", "adam", "sgd", "rmsprop"))
    if optimiser == "sgd":
        learning_rate = trial.suggest_float("sgd_learning_rate", 3e-3, 3e-1, log=True)  # per step, momentum .9
    else:
        learning_rate = trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True)  # per step
    return {
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        "batch_size": trial.suggest_categorical("batch_size", (32, 64, 128)),  # clips a step
        "schedule": trial.suggest_categorical("schedule", ("constant", "cosine", "linear")),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "class_weights": trial.suggest_categorical("class_weights", (False, True)),
    }


def _augmentation(trial: Parameters) -> dict[str, Value]:
    config: dict[str, Value] = {
        "spec_augment": trial.suggest_categorical("spec_augment", (False, True)),
        # cached augmented copies; the first trial with one takes a minute or two to make it
        "waveform_views": trial.suggest_categorical("waveform_views", (0, 1)),
    }
    if config["spec_augment"]:
        config |= {"time_masks": 2, "feature_masks": 2}
        config["time_mask_frames"] = trial.suggest_int("time_mask_frames", 5, 40)  # of some 150 frames a clip
        config["feature_mask_width"] = trial.suggest_int("feature_mask_width", 2, 8)  # columns
    return config
