"""Convolutional networks on log-mel spectrograms, from scratch: residual CNN, parallel CNN, CRNN.

``python search/run.py --space mel_cnn --data $CREMA_D_ROOT --time-budget 60m``
``python search/run.py --space mel_cnn --data $CREMA_D_ROOT --emotions happy,sad --trials 12``

What it costs and what it reached: docs/experiments.md.

Ranges:

* spectrogram: 64 ms windows every 23.25 ms, 128 bands: 3 s of it are the 128 × 130 picture of the notebooks that this
  replaces; or half the bands. One channel, or three with Δ and ΔΔ as there. Clips are read in their own length
* ``max_clip_seconds``: CREMA-D's median is 2.5 s, 95 % end before 3.5 s
* ``scaling``: each clip to its own range, as in the notebooks, or every band by the training clips' mean and deviation
* ``learning_rate``, ``weight_decay``: a decade around AdamW's 1e-3 and .01 (Loshchilov & Hutter 2019, arXiv 1711.05101)
* SpecAugment: two masks of each kind, up to a quarter of a clip and a fifth of the bands (Park et al. 2019, arXiv
  1904.08779)
* ``mixup_alpha``: .2 as in Zhang et al. 2018 (arXiv 1710.09412), or none
* ``dropout``: up to .5 (Srivastava et al. 2014); label smoothing 0 or .1 (Szegedy et al. 2016, arXiv 1512.00567)
"""

from search.parameters import Parameters, Value

FAMILY = "mel"
TRIALS = 24
MAX_EPOCHS = 24
GRACE = 5  # rungs at 5 and 15

_COMMON: dict[str, Value] = {
    "window_seconds": 0.064,
    "hop_seconds": 0.02325,
    "rms_normalise": False,
    "activation": "relu",
    "optimiser": "adamw",
    "batch_size": 32,
    "schedule": "cosine",
    "class_weights": True,
    "waveform_views": 0,
}

KNOWN_GOOD: list[dict[str, Value]] = [
    {
        "network": "cnn", "num_mels": 64, "channels": 1, "max_clip_seconds": 3.5, "scaling": "corpus", "width": 32,
        "blocks": 3, "kernel_size": 3, "batch_norm": True, "pooling": "statistics", "dropout": 0.1,
        "learning_rate": 2e-3, "weight_decay": 0.01, "label_smoothing": 0.1, "mixup_alpha": 0.0, "spec_augment": True,
        "time_mask_frames": 8, "feature_mask_width": 4,
    },
    {
        "network": "crnn", "num_mels": 64, "channels": 1, "max_clip_seconds": 3.5, "scaling": "corpus", "width": 24,
        "blocks": 2, "kernel_size": 3, "batch_norm": True, "pooling": "attention", "dropout": 0.2,
        "learning_rate": 2e-3, "weight_decay": 0.01, "label_smoothing": 0.1, "mixup_alpha": 0.0, "spec_augment": True,
        "time_mask_frames": 8, "feature_mask_width": 4,
    },
]  # fmt: skip


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    network = trial.suggest_categorical("network", ("cnn", "parallel_cnn", "crnn"))
    config: dict[str, Value] = {
        **_COMMON,
        "network": network,
        "num_mels": trial.suggest_categorical("num_mels", (64, 128)),
        "channels": trial.suggest_categorical("channels", (1, 3)),
        "max_clip_seconds": trial.suggest_categorical("max_clip_seconds", (3.0, 3.5, 5.0)),
        "scaling": trial.suggest_categorical("scaling", ("corpus", "clip")),
        "width": trial.suggest_categorical("width", (16, 24, 32)),
        "blocks": trial.suggest_int("blocks", 2, 4),
        "batch_norm": trial.suggest_categorical("batch_norm", (True, False)),
        "pooling": trial.suggest_categorical("pooling", ("mean", "statistics", "attention", "max")),
        "kernel_size": trial.suggest_categorical("kernel_size", (3, 5)),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),  # share of units
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 5e-3, log=True),  # peak, per step
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        "label_smoothing": trial.suggest_categorical("label_smoothing", (0.0, 0.1)),
        "mixup_alpha": trial.suggest_categorical("mixup_alpha", (0.0, 0.2)),
        "spec_augment": trial.suggest_categorical("spec_augment", (True, False)),
    }
    if network == "crnn":
        config |= {"hidden_units": 64, "recurrent_layers": 1}
    if config["spec_augment"]:
        config |= {"time_masks": 2, "feature_masks": 2}
        config["time_mask_frames"] = trial.suggest_int("time_mask_frames", 4, 32)  # frames, of some 108 a clip
        config["feature_mask_width"] = trial.suggest_int("feature_mask_width", 2, 12)  # bands, of 64 or 128
    return config
