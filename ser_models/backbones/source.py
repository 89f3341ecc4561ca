"""Which image backbones there are, and how one is found. Imports neither torch nor transformers."""

from collections.abc import Mapping
from typing import Any

from ser_models.pretrained.source import CONFIG_FILE, Kind, PretrainedSource, find

BACKBONE_TYPES = ("resnet", "efficientnet")
TINY_STAGES = 3
IMAGE_CHANNELS = 3


def num_stages(config: Mapping[str, Any]) -> object:
    """Stages of a backbone by its ``config.json``; no whole number from 1 where the file is damaged.

    Stages of an EfficientNet are its blocks between two halvings: the block groups from one of stride 2 to the next.
    """
    if config.get("model_type") == "efficientnet":
        strides = config.get("strides", (1, 2, 2, 2, 1, 2, 1))  # transformers leaves its defaults out of the file
        if not isinstance(strides, list | tuple) or not strides:
            return strides
        return 1 + sum(stride != 1 for stride in strides[1:])
    depths = config.get("depths", (3, 4, 6, 3))
    return len(depths) if isinstance(depths, list | tuple) else depths


def _misfit(config: Mapping[str, Any]) -> str | None:
    channels = config.get("num_channels", IMAGE_CHANNELS)
    if channels == IMAGE_CHANNELS:
        return None
    return (
        f"takes images of {channels!r} channels (num_channels in its {CONFIG_FILE}). Accepted are backbones for "
        f"{IMAGE_CHANNELS}: a spectrogram fills all three, or has its deltas in the second and third."
    )


BACKBONES = Kind(
    noun="image backbone",
    types=BACKBONE_TYPES,
    files=(CONFIG_FILE,),  # how a spectrogram becomes an image is our rule, not the checkpoint's
    saved="the model",
    example="microsoft/resnet-50",
    spaces={model_type: "mel_resnet50_frozen or mel_resnet50_finetune" for model_type in BACKBONE_TYPES},
    tiny_layers=TINY_STAGES,
    num_layers=num_stages,
    misfit=_misfit,
)


def find_backbone(name: str, *, types: tuple[str, ...] = BACKBONE_TYPES, pretrained: bool = True) -> PretrainedSource:
    """As :func:`ser_models.pretrained.source.find`, of image backbones."""
    return find(BACKBONES, name, types=types, pretrained=pretrained)
