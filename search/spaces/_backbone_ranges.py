"""Ranges that the spaces over image backbones share, each with its source.

* images: 128 mel bands and 3 s, the 128 × 130 of the notebooks that are replayed here; one channel three times or
  log-mel, Δ and ΔΔ; 224 pixels a side is what the networks were trained on (He et al. 2016, arXiv 1512.03385)
* ``unfreeze_depth``: from the top stage to all and the stem. Of several backbones, those with the same number of stages
  share the parameter; else each range is one of its own (``search/encoder_axis.py``)
* head: as over speech encoders (``_encoder_ranges.py``)
* ``backbone_lr``: 1e-5 to 1e-3, from a hundredth of the head's rate up to the head's own
* ``layer_decay``: .3 to 1 by stage; a stage is some layers (discriminative fine-tuning, Howard & Ruder 2018,
  arXiv 1801.06146: 1/2.6 a layer)
* ``batch_norm``: spectrograms have other statistics than photographs, and small batches have noisy ones
* ``mixup_alpha``: .2 as in Zhang et al. 2018 (arXiv 1710.09412), or none
* masks: up to a quarter of the frames and bands of an image, two of each (Park et al. 2019, arXiv 1904.08779)
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as encoder_ranges

_IMAGES: dict[str, Value] = {"num_mels": 128, "max_clip_seconds": 3.0}


def frozen(trial: Parameters, *, epochs: int) -> dict[str, Value]:
    """Heads on the pooled vectors of a frozen backbone."""
    return {
        **encoder_ranges.COMMON,
        **_IMAGES,
        "unfreeze_depth": 0,
        "batch_size": 64,
        "epochs": epochs,
        "channels": trial.suggest_categorical("channels", (1, 3)),
        "image_size": trial.suggest_categorical("image_size", ("native", 224)),
        "mixup_alpha": trial.suggest_categorical("mixup_alpha", (0.0, 0.2)),
        **encoder_ranges.head(trial),
    }


def fine_tuned(trial: Parameters, *, num_stages: int, epochs: int) -> dict[str, Value]:
    """The upper stages trained, or all of them and the stem, whose images may then be masked."""
    depth = trial.suggest_int("unfreeze_depth", 1, num_stages + 1)
    config: dict[str, Value] = {
        **encoder_ranges.COMMON,
        **_IMAGES,
        "unfreeze_depth": depth,
        "image_size": "native",
        "batch_size": 32,
        "epochs": epochs,
        "channels": trial.suggest_categorical("channels", (1, 3)),
        "schedule": trial.suggest_categorical("schedule", ("cosine", "linear")),
        "batch_norm": trial.suggest_categorical("batch_norm", ("frozen", "trained")),
        "backbone_lr": trial.suggest_float("backbone_lr", 1e-5, 1e-3, log=True),  # peak of the top stage, per step
        "mixup_alpha": trial.suggest_categorical("mixup_alpha", (0.0, 0.2)),
        **encoder_ranges.head(trial),
    }
    if depth > 1:
        config["layer_decay"] = trial.suggest_float("layer_decay", 0.3, 1.0)  # by the rate of the stage above
    config["mask_at"] = "none"
    if depth > num_stages:  # below that, masks would throw away what is computed once
        config["mask_at"] = trial.suggest_categorical("mask_at", ("none", "input"))
    if config["mask_at"] == "input":
        config |= {"time_masks": 2, "feature_masks": 2}
        config["time_mask_frames"] = trial.suggest_int("time_mask_frames", 4, 32)  # of 130
        config["feature_mask_width"] = trial.suggest_int("feature_mask_width", 4, 32)  # bands, of 128
    return config


FROZEN_KNOWN_GOOD: list[dict[str, Value]] = [
    {"channels": 1, "image_size": "native", "mixup_alpha": 0.0, **encoder_ranges.HEAD},
    {"channels": 3, "image_size": "native", "mixup_alpha": 0.0, **encoder_ranges.HEAD},
]
_FINE_TUNED: dict[str, Value] = {
    "channels": 1, "schedule": "cosine", "batch_norm": "trained", "backbone_lr": 1e-4, "mixup_alpha": 0.0,
    **encoder_ranges.HEAD,
}  # fmt: skip
FINE_TUNED_KNOWN_GOOD: list[dict[str, Value]] = [
    {"unfreeze_depth": 1, **_FINE_TUNED},
    {"unfreeze_depth": 2, "layer_decay": 0.7, **_FINE_TUNED},
]
