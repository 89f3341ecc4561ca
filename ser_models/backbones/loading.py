"""Reads an image backbone's weights, whole or not at all, and makes one from its stored description."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ser_models.backbones.architectures import SplitBackbone, split_backbone
from ser_models.backbones.source import BACKBONES, TINY_STAGES
from ser_models.pretrained.kept import KeptNetworks
from ser_models.pretrained.loading import (
    check_finite,
    quiet_transformers,
    random_weights,
    read_weights,
    tensors_hash,
)
from ser_models.pretrained.source import TINY, PretrainedSource, source_from_spec

# Of checkpoints, with or without the name of the model in front; what is not among them is a head.
_PARTS = ("embedder.", "embeddings.", "encoder.")
_TINY_SHAPES: dict[str, dict[str, Any]] = {
    "resnet": {
        "embedding_size": 8, "hidden_sizes": [8, 12, 16][:TINY_STAGES], "depths": [1] * TINY_STAGES,
        "layer_type": "basic",
    },
    "efficientnet": {
        "width_coefficient": 0.05, "depth_coefficient": 0.1, "hidden_dim": 64, "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40], "kernel_sizes": [3, 3, 5], "strides": [1, 2, 2], "num_block_repeats": [1, 2, 2],
        "expand_ratios": [1, 6, 6],
    },
}  # fmt: skip


@KeptNetworks
def load_backbone(spec: str) -> SplitBackbone:
    """The backbone that *spec* names, frozen, in float32 and eval mode. Kept for the next trials of this process.

    Args:
        spec: `PretrainedSource.spec`

    Raises:
        UserError: if weights are missing, left over, not finite, or cannot be reached
    """
    from transformers import AutoModel

    source = source_from_spec(spec)
    with quiet_transformers():
        if source.pretrained:
            model = read_weights(AutoModel, source, noun=BACKBONES.noun, is_part=_is_of_backbone)
        else:
            model = _random(source)
    backbone = frozen(model)
    check_finite(backbone.state_dict(), label=source.label, noun=BACKBONES.noun)
    return backbone


def restore_backbone(config: Mapping[str, Any]) -> SplitBackbone:
    """A backbone from its stored description, with weights that a state must replace."""
    from transformers import AutoConfig, AutoModel

    values = dict(config)
    return frozen(AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values)))


def weights_hash(backbone: SplitBackbone) -> str:
    """SHA-256 over everything that a backbone's outputs depend on: its settings and all its weights."""
    return tensors_hash(backbone.config_dict(), backbone.state_dict())


def frozen(model: nn.Module) -> SplitBackbone:
    """*model* taken apart, in eval mode, without gradients."""
    backbone = split_backbone(model)
    backbone.requires_grad_(False)
    backbone.eval()
    # Maps are cached pixel by pixel, which is this layout, and convolutions on a CPU want no other.
    backbone.to(memory_format=torch.channels_last)
    return backbone


def _is_of_backbone(key: str) -> bool:
    return key.removeprefix("resnet.").removeprefix("efficientnet.").startswith(_PARTS)


def _random(source: PretrainedSource) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    if source.name == TINY:
        config = AutoConfig.for_model(source.model_type, **_TINY_SHAPES[source.model_type])
    else:
        config = AutoConfig.from_pretrained(source.name, revision=source.revision)
    return random_weights(lambda: _alive(AutoModel.from_config(config, dtype=torch.float32)))


def _alive(model: nn.Module) -> nn.Module:
    """An EfficientNet as He et al. (2015, arXiv 1502.01852) begin one.

    transformers draws its convolutions and the scales of its norms around 0, for weights that are read behind it: of an
    image nothing would reach the last map.
    """
    if getattr(model.config, "model_type", "") == "efficientnet":
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
    return model
