"""Networks on spectrograms: ``(batch, frames, channels · bands)``, lengths ``(batch,)`` → ``(batch, num_classes)``.

All take batches whose padded frames are 0, and give a clip the same logits whatever shares its batch (in eval mode).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ser_models.heads import Head
from ser_models.mel.layers import MelStack
from ser_models.pooling import build_pooling
from ser_models.recurrent import BidirectionalLstm


class _PooledStacks(nn.Module):
    """Residual convolutions over bands and time, pooled over time; several side by side, each pooled on its own.

    Args:
        dim: columns of a frame
        num_classes: logits
        kernels: of each stack
        channels: that the columns are
        pooling: by name
        activation: by name
        dropout: share of channels and of units
        stack: the other settings of a `MelStack`
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        kernels: Sequence[tuple[int, int]],
        *,
        channels: int,
        pooling: str,
        activation: str,
        dropout: float,
        **stack: Any,
    ) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            MelStack(dim // channels, channels, kernel=kernel, activation=activation, dropout=dropout, **stack)
            for kernel in kernels
        )
        self.poolings = nn.ModuleList(build_pooling(pooling, stack.output_dim) for stack in self.stacks)
        pooled = sum(pooling.output_dim for pooling in self.poolings)
        self.head = Head(pooled, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.stacks, self.poolings, strict=True)
        return self.head(torch.cat([pooling(*stack(inputs, lengths)) for stack, pooling in pairs], dim=1))


class MelCnn(_PooledStacks):
    """One stack with a square kernel."""

    def __init__(self, dim: int, num_classes: int, *, kernel_size: int, **settings: Any) -> None:
        super().__init__(dim, num_classes, [(kernel_size, kernel_size)], **settings)


class ParallelCnn(_PooledStacks):
    """Three stacks side by side: one looks along the bands, one along time, one at both."""

    def __init__(self, dim: int, num_classes: int, *, kernel_size: int, **settings: Any) -> None:
        long = 2 * kernel_size + 1
        super().__init__(dim, num_classes, [(kernel_size, kernel_size), (long, 1), (1, long)], **settings)


class MelCrnn(nn.Module):
    """Residual convolutions, then a bidirectional LSTM over the shortened time."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        kernel_size: int,
        hidden_units: int,
        recurrent_layers: int,
        pooling: str,
        activation: str,
        dropout: float,
        **stack: Any,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size)
        self.stack = MelStack(dim // channels, channels, kernel=kernel, activation=activation, dropout=dropout, **stack)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = BidirectionalLstm(self.stack.output_dim, hidden_units, recurrent_layers, dropout)
        self.pooling = build_pooling(pooling, self.recurrent.output_dim)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        frames, lengths = self.stack(inputs, lengths)
        return self.head(self.pooling(self.recurrent(self.dropout(frames), lengths), lengths))
