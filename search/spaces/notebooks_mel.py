"""The spectrogram systems of the notebooks that this replaces, one configuration each, all trained to the end.

``python search/run.py --space notebooks_mel --data $CREMA_D_ROOT``
``python search/run.py --space notebooks_mel --data $CREMA_D_ROOT --emotions happy,sad --split random``

Nothing is searched: the board compares the systems on one split, and a second board shows what a random split adds.
What they reached here, and what the notebooks reported: docs/notebooks_replayed.md. Those on ResNet with ImageNet
weights are the spaces mel_resnet50_frozen and mel_resnet50_finetune.

128 bands of the first 3 s, three channels (log-mel, Δ, ΔΔ), each clip in its own range, as there; the autoencoder on
one channel. Sizes, rates and epochs are not told by the notebooks' reports and are this project's.
"""

from search.parameters import Parameters, Value

FAMILY = "mel"
TRIALS = 3
MAX_EPOCHS = 20
GRACE = MAX_EPOCHS  # no rung: every system runs to its end

_STACK: dict[str, Value] = {
    "channels": 3, "scaling": "clip", "width": 16, "blocks": 3, "kernel_size": 3, "batch_norm": True,
    "pooling": "mean", "rms_normalise": False, "mixup_alpha": 0.0, "waveform_views": 0, "learning_rate": 1e-3,
}  # fmt: skip
_SYSTEMS: dict[str, dict[str, Value]] = {
    "cnn": {
        "network": "cnn", **_STACK, "spec_augment": True, "time_masks": 2, "feature_masks": 2, "time_mask_frames": 8,
        "feature_mask_width": 8,
    },
    "parallel_cnn": {"network": "parallel_cnn", **_STACK, "spec_augment": False},
    "autoencoder": {
        "network": "autoencoder", "rms_normalise": False, "width": 16, "bottleneck": 128, "reconstruction_epochs": 12,
        "then": "frozen", "learning_rate": 1e-3, "head_lr": 1e-3,
    },
}  # fmt: skip
_COMMON: dict[str, Value] = {
    "num_mels": 128,
    "window_seconds": 0.064,
    "hop_seconds": 0.02325,
    "max_clip_seconds": 3.0,
    "activation": "relu",
    "dropout": 0.3,
    "optimiser": "adamw",
    "weight_decay": 0.01,
    "batch_size": 32,
    "schedule": "cosine",
    "label_smoothing": 0.0,
    "class_weights": True,
}

KNOWN_GOOD: list[dict[str, Value]] = [{"system": name} for name in _SYSTEMS]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One of the systems."""
    return {**_COMMON, **_SYSTEMS[str(trial.suggest_categorical("system", tuple(_SYSTEMS)))]}
