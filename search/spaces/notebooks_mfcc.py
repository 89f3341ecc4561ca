"""The MFCC systems of the notebooks that this replaces, one configuration each, all trained to the end.

``python search/run.py --space notebooks_mfcc --data $CREMA_D_ROOT``
``python search/run.py --space notebooks_mfcc --data $CREMA_D_ROOT --split random``

Nothing is searched: the board compares the systems on one split, and a second board shows what a random split adds.
What they reached here, and what the notebooks reported: docs/notebooks_replayed.md.

40 MFCC with Δ and ΔΔ of the first 3.5 s, class weights and Adam, as there; 16 kHz audio (there 22.05 kHz). ``hybrid``
is 13 MFCC with chroma, spectral centroid and bandwidth after RMS normalisation. Sizes, rates and epochs are not told
by the notebooks' reports and are this project's.
"""

from search.parameters import Parameters, Value

FAMILY = "mfcc"
TRIALS = 4
MAX_EPOCHS = 20
GRACE = MAX_EPOCHS  # no rung: every system runs to its end

_SYSTEMS: dict[str, dict[str, Value]] = {
    "crnn_attention": {
        "network": "crnn_attention", "channels": 64, "blocks": 3, "kernel_size": 5, "hidden_units": 64,
        "recurrent_layers": 1, "spec_augment": True, "time_masks": 2, "feature_masks": 2, "time_mask_frames": 15,
        "feature_mask_width": 6,
    },
    "crnn": {
        "network": "crnn", "channels": 64, "blocks": 3, "kernel_size": 5, "hidden_units": 64, "recurrent_layers": 1,
        "pooling": "mean", "spec_augment": False,
    },
    "hybrid": {
        "network": "crnn", "channels": 64, "blocks": 3, "kernel_size": 5, "hidden_units": 64, "recurrent_layers": 1,
        "pooling": "mean", "spec_augment": False, "features": "hybrid", "rms_normalise": True,
    },
    "bilstm": {
        "network": "bilstm", "hidden_units": 64, "recurrent_layers": 1, "pooling": "mean", "spec_augment": False,
    },
}  # fmt: skip
_COMMON: dict[str, Value] = {
    "rms_normalise": False,
    "max_clip_seconds": 3.5,
    "activation": "relu",
    "dropout": 0.3,
    "optimiser": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "batch_size": 32,
    "schedule": "cosine",
    "label_smoothing": 0.0,
    "class_weights": True,
    "waveform_views": 0,
}
_MFCC: dict[str, Value] = {"features": "mfcc", "num_coefficients": 40, "deltas": 2}

KNOWN_GOOD: list[dict[str, Value]] = [{"system": name} for name in _SYSTEMS]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One of the systems."""
    system = _SYSTEMS[str(trial.suggest_categorical("system", tuple(_SYSTEMS)))]
    return {**_COMMON, **({} if "features" in system else _MFCC), **system}
