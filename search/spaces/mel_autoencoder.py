"""A convolutional autoencoder on log-mel pictures whose bottleneck feeds a classifier, in one trial with one budget.

``python search/run.py --space mel_autoencoder --data $CREMA_D_ROOT --emotions happy,sad --trials 12``

The autoencoder learns to reconstruct the training actors' spectrograms without their labels; the classifier learns on
its bottlenecks beside it, then goes on alone (``then=frozen``) or together with the encoder (``then=fine-tune``). The
reconstruction error of every epoch is in epochs.parquet, pictures of it are in the bundle. What it costs and what it
reached: docs/experiments.md.

Ranges:

* picture: 128 bands × 130 frames (3 s), each clip in its own range, as in the notebooks that this replaces; or 64 bands
* ``bottleneck``: 64 and 128 as there, and more
* ``reconstruction_epochs``: of 30; a third to two thirds
* ``learning_rate``: a decade around AdamW's 1e-3 (Loshchilov & Hutter 2019, arXiv 1711.05101); ``head_lr`` likewise
* ``dropout`` of the classifier: up to .5 (Srivastava et al. 2014)
"""

from search.parameters import Parameters, Value

FAMILY = "mel"
TRIALS = 12
MAX_EPOCHS = 30
GRACE = 20  # one rung, in the second phase: the first says little of it

_COMMON: dict[str, Value] = {
    "network": "autoencoder",
    "window_seconds": 0.064,
    "hop_seconds": 0.02325,
    "rms_normalise": False,
    "max_clip_seconds": 3.0,
    "activation": "relu",
    "optimiser": "adamw",
    "batch_size": 32,
    "schedule": "cosine",
    "class_weights": True,
}

KNOWN_GOOD: list[dict[str, Value]] = [
    {
        "num_mels": 64, "width": 16, "bottleneck": 128, "reconstruction_epochs": 12, "then": "fine-tune",
        "learning_rate": 1e-3, "head_lr": 1e-3, "dropout": 0.3, "weight_decay": 0.01, "label_smoothing": 0.1,
    },
    {
        "num_mels": 64, "width": 16, "bottleneck": 128, "reconstruction_epochs": 20, "then": "frozen",
        "learning_rate": 1e-3, "head_lr": 1e-3, "dropout": 0.3, "weight_decay": 0.01, "label_smoothing": 0.1,
    },
]  # fmt: skip


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {
        **_COMMON,
        "num_mels": trial.suggest_categorical("num_mels", (64, 128)),
        "width": trial.suggest_categorical("width", (8, 16)),
        "bottleneck": trial.suggest_categorical("bottleneck", (64, 128, 256)),
        "reconstruction_epochs": trial.suggest_int("reconstruction_epochs", 10, 20),
        "then": trial.suggest_categorical("then", ("fine-tune", "frozen")),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-3, log=True),  # peak, per step
        "head_lr": trial.suggest_float("head_lr", 3e-4, 1e-2, log=True),  # peak, per step
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),  # share of units
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        "label_smoothing": trial.suggest_categorical("label_smoothing", (0.0, 0.1)),
    }
