"""One interface over transformers' image networks, cut between their stages.

Whatever the architecture, a backbone is the same chain::

    image ─ stem ─▶ map 0 ─ stage 1 ─▶ map 1 … ─ stage L ─▶ map L ─ pool ─▶ vector

A ResNet has its stages from transformers. Those of an EfficientNet are its blocks from one halving of the map to the
next, with the 1 × 1 convolution behind the last block in the last stage: five, for B0 to B7. *vector* is what
transformers calls ``pooler_output``.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import nn

from ser_models.backbones.source import IMAGE_CHANNELS


class SplitBackbone(nn.Module, ABC):
    """An image network of transformers, taken apart.

    Args:
        model: the network without its head, as transformers made it

    Attributes:
        num_stages: L
        dim: columns of the pooled vector
        total_stride: pixels of the image to a pixel of the last map, a side
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config: Any = model.config
        self._shapes: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    @property
    def model_type(self) -> str:
        return str(self.config.model_type)

    @property
    def num_stages(self) -> int:
        return len(self.stages)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    @abstractmethod
    def dim(self) -> int: ...

    @property
    @abstractmethod
    def total_stride(self) -> int: ...

    @property
    @abstractmethod
    def stem(self) -> nn.Module:
        """(batch, 3, height, width) to map 0, (batch, channels, height', width')."""

    @property
    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """Map to map, bottom first. They share their weights with the model."""

    def pool(self, last_map: torch.Tensor) -> torch.Tensor:
        """Map L to vectors (batch, dim), in float32 at least."""
        wide = last_map.float() if last_map.dtype in (torch.bfloat16, torch.float16) else last_map
        pooled: torch.Tensor = self.model.pooler(wide)
        return pooled.flatten(1)

    @torch.no_grad()
    def map_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Channels, height and width of map 0 to map L for an image of that size."""
        if (height, width) not in self._shapes:
            device = next(self.model.parameters()).device
            hidden = torch.zeros(1, IMAGE_CHANNELS, height, width, dtype=self.dtype, device=device)
            shapes = []
            for part in (self.stem, *self.stages):
                hidden = part(hidden)
                shapes.append((hidden.shape[1], hidden.shape[2], hidden.shape[3]))
            self._shapes[height, width] = shapes
        return self._shapes[height, width]

    def config_dict(self) -> dict[str, Any]:
        """The settings of the network, as values that JSON takes."""
        return dict(self.config.to_diff_dict(), model_type=self.model_type)


class ResNetBackbone(SplitBackbone):
    """ResNet (He et al. 2016, arXiv 1512.03385), of basic or of bottleneck layers."""

    @property
    def dim(self) -> int:
        return int(self.config.hidden_sizes[-1])

    @property
    def total_stride(self) -> int:
        of_stem, of_first = 4, 2 if self.config.downsample_in_first_stage else 1
        return int(of_stem * of_first * 2 ** (len(self.config.depths) - 1))

    @property
    def stem(self) -> nn.Module:
        return self.model.embedder

    @cached_property
    def stages(self) -> list[nn.Module]:
        return list(self.model.encoder.stages)


class EfficientNetBackbone(SplitBackbone):
    """EfficientNet (Tan and Le 2019, arXiv 1905.11946)."""

    @property
    def dim(self) -> int:
        return int(self.config.hidden_dim)

    @property
    def total_stride(self) -> int:
        return int(2 * prod(self.config.strides))

    @property
    def stem(self) -> nn.Module:
        return self.model.embeddings

    @cached_property
    def stages(self) -> list[nn.Module]:
        encoder = self.model.encoder
        grouped: list[list[nn.Module]] = []
        for block in encoder.blocks:
            if not grouped or block.depthwise_conv.stride != 1:
                grouped.append([])
            grouped[-1].append(block)
        grouped[-1] += [encoder.top_conv, encoder.top_bn, encoder.top_activation]
        return [nn.Sequential(*modules) for modules in grouped]


_KINDS: dict[str, type[SplitBackbone]] = {"resnet": ResNetBackbone, "efficientnet": EfficientNetBackbone}


def split_backbone(model: nn.Module) -> SplitBackbone:
    """The interface over *model*, an image network of transformers without its head."""
    config: Any = model.config
    return _KINDS[config.model_type](model)
