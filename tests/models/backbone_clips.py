"""Small random image networks of every kind, a few clips for them, and transformers' names of their parts."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, EfficientNetConfig, ResNetConfig

from ser_data.features.clip_frames import ClipFrames
from ser_data.features.extraction import compute
from ser_data.features.settings import LogMelSettings
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.images import ImageRecipe
from ser_models.backbones.loading import frozen
from ser_models.backbones.plan import BackbonePlan, HeadPlan
from ser_models.training import TrainingSettings
from tests.models.encoder_clips import clip_samples, randomise

NUM_CLASSES = 4
ARCHITECTURES = ("basic", "bottleneck", "efficientnet")
NUM_STAGES = {"basic": 3, "bottleneck": 2, "efficientnet": 3}
CLIP_SAMPLES = (6400, 12160, 9600, 21000)  # the last one is cut, the others are padded
LABELS = (0, 1, 2, 3)
SETTINGS = LogMelSettings(num_mels=40)

# transformers' name of each part by ours, for the networks below: written out, not derived as the code derives it.
_BLOCKS = {"0": "0.0", "1": "1.0", "2": "1.1", "3": "2.0", "4": "2.1"}
PARTS: dict[str, dict[str, str]] = {
    "basic": {"embedder": "stem", **{f"encoder.stages.{stage}": f"stages.{stage}" for stage in range(3)}},
    "bottleneck": {"embedder": "stem", **{f"encoder.stages.{stage}": f"stages.{stage}" for stage in range(2)}},
    "efficientnet": {
        "embeddings": "stem",
        **{f"encoder.blocks.{block}": f"stages.{place}" for block, place in _BLOCKS.items()},
        "encoder.top_conv": "stages.2.2",
        "encoder.top_bn": "stages.2.3",
    },
}


def config_of(architecture: str, **changes: Any) -> Any:
    """A small configuration of transformers'; map 0 and map 1 are of one shape in each."""
    made: dict[str, Any] = {
        "basic": lambda: ResNetConfig(
            **{"embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 2, 1], "layer_type": "basic", **changes}
        ),
        "bottleneck": lambda: ResNetConfig(
            **{"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1], "layer_type": "bottleneck", **changes}
        ),
        "efficientnet": lambda: EfficientNetConfig(
            **{
                "width_coefficient": 0.05, "depth_coefficient": 1.0, "hidden_dim": 64, "in_channels": [32, 16, 24, 24],
                "out_channels": [16, 24, 24, 40], "kernel_sizes": [3, 5, 3, 3], "strides": [1, 2, 2, 1],
                "num_block_repeats": [1, 2, 1, 1], "expand_ratios": [1, 6, 6, 6], "initializer_range": 0.4,
                "drop_connect_rate": 0.0, "depthwise_padding": [3], **changes,
            }
        ),
    }  # fmt: skip
    return made[architecture]()


@cache
def small_backbone(architecture: str, dtype: torch.dtype = torch.float32) -> SplitBackbone:
    """A frozen backbone with random weights and statistics; nobody may change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(config_of(architecture))
    randomise(model)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(
            module, nn.BatchNorm2d
        ):  # an EfficientNet is born with scales of about 0, which tell no clips apart
            nn.init.uniform_(module.weight, 1.0, 2.0, generator=generator)
    return frozen(model).to(dtype)


@cache
def listed_frames() -> ClipFrames:
    """Log-mel frames of four generated clips."""
    clips = [clip_samples(length, seed) for seed, length in enumerate(CLIP_SAMPLES)]
    return ClipFrames.of([compute(clip, SETTINGS) for clip in clips], dim=SETTINGS.dim)


def recipe_of(image_size: str | int = "native") -> ImageRecipe:
    """Images of the first 1.1 s: 40 bands × 48 frames."""
    return ImageRecipe(SETTINGS, max_clip_seconds=1.1, image_size=image_size)


def listed_images(recipe: ImageRecipe) -> torch.Tensor:
    """All listed clips as images, float32 (clips, 3, height, width)."""
    frames = listed_frames()
    return recipe.images([frames[clip] for clip in range(len(CLIP_SAMPLES))])


def plan_of(architecture: str, depth: int, **changes: Any) -> BackbonePlan:
    """A plan without anything random."""
    values: dict[str, Any] = {
        "num_stages": NUM_STAGES[architecture],
        "depth": depth,
        "recipe": recipe_of(),
        "masks": None,
        "batch_norm": "frozen",
        "head": HeadPlan(hidden_layers=1, hidden_units=12, dropout=0.0),
        "backbone_lr": 1e-4,
        "layer_decay": 1.0,
        "settings": TrainingSettings(1, 8, "adamw", 1e-3, 0.0, "constant", 0.0, False),
        "read": {},
        **changes,
    }
    return BackbonePlan(**values)


def trained_parts(architecture: str, depth: int) -> dict[str, str]:
    """Those of `PARTS` that are trained at a depth, by the names that they have in a `BackboneClassifier`."""
    num_stages = NUM_STAGES[architecture]
    first = max(0, num_stages - depth)
    chosen = {}
    for theirs, ours in PARTS[architecture].items():
        if ours == "stem":
            if depth > num_stages:
                chosen[theirs] = ours
            continue
        _, stage, *rest = ours.split(".")
        if int(stage) >= first and depth:
            chosen[theirs] = ".".join(["stages", str(int(stage) - first), *rest])
    return chosen


CLIPS = np.arange(len(CLIP_SAMPLES))
