"""Ranges that the spaces over pretrained encoders share, each with its source.

* ``unfreeze_depth``: from a frozen encoder up to four layers (FAST) or all of them (FULL). Of several encoders, those
  with the same range share the parameter; else each range is one of its own (``search/encoder_axis.py``)
* ``max_clip_seconds``: ends at 5 s, since CREMA-D's longest clip has 5.005 s; 3 s cuts 17 % of the clips, 4 s 1 %
* ``head_lr``: two decades around AdamW's 1e-3 (Loshchilov & Hutter 2019, arXiv 1711.05101), for a head from scratch
* ``backbone_lr``: 1e-5 to 3e-4; 1e-5 to 1e-4 is what wav2vec 2.0 and Whisper are fine-tuned with (Baevski et al. 2020,
  arXiv 2006.11477; transformers' audio-classification recipe: 3e-5), few layers bear more
* ``layer_decay``: .6 to 1 (discriminative fine-tuning, Howard & Ruder 2018, arXiv 1801.06146)
* ``unfreeze_at_epoch``: up to the third epoch (gradual unfreezing, same source). The FAST spaces train the head for
  ten epochs first: they cost seconds, since all layers are still fixed, and a head that is trained already leaves the
  layers their features (linear probing, then fine-tuning: Kumar et al. 2022, arXiv 2202.10054)
* masks: shares up to three times the .05 that wav2vec 2.0 was fine-tuned with, spans of 10 frames as there
* ``dropout``, ``label_smoothing``, ``weight_decay``: as in the MFCC spaces
"""

from search.parameters import Parameters, Value

_HEAD_FIRST = 10  # epochs of a FAST trial before its layers thaw
_LARGE = 12  # layers; a larger encoder's activations do not fit beside it on a common GPU

COMMON: dict[str, Value] = {
    "accumulation": 1,
    "class_weights": True,
    "clip_norm": 1.0,
    "schedule": "cosine",
    "warmup_share": 0.1,
}


def fast(trial: Parameters, *, deepest: int, frozen_epochs: int, trained_epochs: int) -> dict[str, Value]:
    """Up to *deepest* layers, masks on the hidden states that enter the first of them: all below is computed once."""
    depth = trial.suggest_int("unfreeze_depth", 0, deepest)
    config: dict[str, Value] = {
        **COMMON,
        "unfreeze_depth": depth,
        "mask_at": "boundary",
        "batch_size": 32 if depth else 64,  # a step of a head alone takes as long for 64 clips
        "epochs": _HEAD_FIRST + trained_epochs if depth else frozen_epochs,
        "max_clip_seconds": trial.suggest_categorical("max_clip_seconds", (5.0, 4.0, 3.0)),
        "layer_mix": trial.suggest_categorical("layer_mix", ("concat", "weighted", "last")),
        "pooling": trial.suggest_categorical("pooling", ("mean", "statistics")),
        **head(trial),
    }
    if depth:
        config |= {"adapt": "unfreeze", "gradient_checkpointing": False, "unfreeze_at_epoch": _HEAD_FIRST + 1}
        config |= _backbone(trial, depth)
        config |= _masks(trial, feature_length=32)
    return config


def full(trial: Parameters, *, num_layers: int, epochs: int, feature_length: int) -> dict[str, Value]:
    """Every depth, masks on the encoder's input as in the papers, every pooling, whole layers or low-rank adapters."""
    depth = trial.suggest_int("unfreeze_depth", 0, num_layers)
    config: dict[str, Value] = {
        **COMMON,
        "unfreeze_depth": depth,
        "mask_at": "input",
        "batch_size": trial.suggest_categorical("batch_size", (16, 32)),
        "epochs": epochs,
        "max_clip_seconds": trial.suggest_categorical("max_clip_seconds", (5.0, 4.0, 3.0)),
        "schedule": trial.suggest_categorical("schedule", ("cosine", "linear")),
        "layer_mix": trial.suggest_categorical("layer_mix", ("concat", "weighted", "last")),
        "pooling": trial.suggest_categorical("pooling", ("mean", "statistics", "attention")),
        **head(trial),
    }
    if depth:
        config["gradient_checkpointing"] = num_layers > _LARGE  # a third more time, for a fraction of the memory
        config["adapt"] = trial.suggest_categorical("adapt", ("unfreeze", "lora"))
        if config["adapt"] == "lora":
            rank = trial.suggest_categorical("lora_rank", (4, 8, 16))
            config |= {"lora_rank": rank, "lora_alpha": 2.0 * rank, "lora_dropout": 0.05}
        config["unfreeze_at_epoch"] = trial.suggest_int("unfreeze_at_epoch", 1, 3)
        config |= _backbone(trial, depth)
    config |= _masks(trial, feature_length=feature_length)
    return config


def head(trial: Parameters) -> dict[str, Value]:
    """The classifier on top, and what regularises it."""
    config: dict[str, Value] = {
        "head_layers": trial.suggest_int("head_layers", 0, 2),
        "head_lr": trial.suggest_float("head_lr", 1e-4, 1e-2, log=True),  # peak, per step
        "dropout": trial.suggest_float("dropout", 0.1, 0.6),  # share of units
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        "label_smoothing": trial.suggest_categorical("label_smoothing", (0.0, 0.1)),
    }
    if config["head_layers"]:
        config["head_units"] = trial.suggest_categorical("head_units", (128, 256, 512))
    return config


def _backbone(trial: Parameters, depth: int) -> dict[str, Value]:
    backbone: dict[str, Value] = {
        "backbone_lr": trial.suggest_float("backbone_lr", 1e-5, 3e-4, log=True),  # peak of the top layer, per step
    }
    if depth > 1:
        backbone["layer_decay"] = trial.suggest_float("layer_decay", 0.6, 1.0)  # by the rate of the layer above
    return backbone


def _masks(trial: Parameters, *, feature_length: int) -> dict[str, Value]:
    masks: dict[str, Value] = {"spec_augment": trial.suggest_categorical("spec_augment", (True, False))}
    if masks["spec_augment"]:
        masks |= {"mask_time_length": 10, "mask_feature_length": feature_length}
        masks["mask_time_prob"] = trial.suggest_float("mask_time_prob", 0.02, 0.15)  # share of frames
        masks["mask_feature_prob"] = trial.suggest_float("mask_feature_prob", 0.0, 0.15)  # share of columns
    return masks


HEAD: dict[str, Value] = {
    "head_layers": 1, "head_units": 256, "head_lr": 1e-3, "dropout": 0.3, "weight_decay": 0.01, "label_smoothing": 0.1,
}  # fmt: skip
MASKS: dict[str, Value] = {"spec_augment": True, "mask_time_prob": 0.05, "mask_feature_prob": 0.05}

FAST_KNOWN_GOOD: list[dict[str, Value]] = [
    {"unfreeze_depth": 0, "max_clip_seconds": 5.0, "layer_mix": "concat", "pooling": "mean", **HEAD},
    {"unfreeze_depth": 0, "max_clip_seconds": 5.0, "layer_mix": "weighted", "pooling": "statistics", **HEAD},
    {
        "unfreeze_depth": 2, "max_clip_seconds": 5.0, "layer_mix": "concat", "pooling": "mean", **HEAD, **MASKS,
        "backbone_lr": 1e-4, "layer_decay": 0.9,
    },
]  # fmt: skip
FULL_KNOWN_GOOD: list[dict[str, Value]] = [
    {
        "unfreeze_depth": 2, "max_clip_seconds": 5.0, "batch_size": 32, "schedule": "cosine", "adapt": "unfreeze",
        "layer_mix": "concat", "pooling": "mean", **HEAD, **MASKS,
        "backbone_lr": 1e-4, "layer_decay": 0.9, "unfreeze_at_epoch": 1,
    },
    {
        "unfreeze_depth": 12, "max_clip_seconds": 5.0, "batch_size": 32, "schedule": "linear", "adapt": "unfreeze",
        "layer_mix": "last", "pooling": "mean", **HEAD, **MASKS,
        "backbone_lr": 3e-5, "layer_decay": 1.0, "unfreeze_at_epoch": 2,
    },
]  # fmt: skip
