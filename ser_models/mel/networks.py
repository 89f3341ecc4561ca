"""Networks on spectrograms: ``(batch, frames, channels · bands)``, lengths ``(batch,)`` → ``(batch, num_classes)``.

All take batches whose padded frames are 0, and give a clip the same logits whatever shares its batch (in eval mode).
"""

from typing import Any

import torch
from torch import nn

from ser_models.heads import Head
from ser_models.mel.layers import MelStack
from ser_models.pooling import build_pooling
from ser_models.recurrent import BidirectionalLstm


class MelCnn(nn.Module):
    """Residual convolutions over bands and time, pooled over time."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        kernel_size: int,
        pooling: str,
        activation: str,
        dropout: float,
        **stack: Any,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size)
        self.stack = MelStack(dim // channels, channels, kernel=kernel, activation=activation, dropout=dropout, **stack)
        self.pooling = build_pooling(pooling, self.stack.output_dim)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.head(self.pooling(*self.stack(inputs, lengths)))


class ParallelCnn(nn.Module):
    """Three stacks side by side: one looks along the bands, one along time, one at both; each is pooled on its own."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        kernel_size: int,
        pooling: str,
        activation: str,
        dropout: float,
        **stack: Any,
    ) -> None:
        super().__init__()
        long = 2 * kernel_size + 1
        self.stacks = nn.ModuleList(
            MelStack(dim // channels, channels, kernel=kernel, activation=activation, dropout=dropout, **stack)
            for kernel in ((kernel_size, kernel_size), (long, 1), (1, long))
        )
        self.poolings = nn.ModuleList(build_pooling(pooling, stack.output_dim) for stack in self.stacks)
        pooled = sum(pooling.output_dim for pooling in self.poolings)
        self.head = Head(pooled, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        vectors = [pooling(*stack(inputs, lengths)) for stack, pooling in zip(self.stacks, self.poolings, strict=True)]
        return self.head(torch.cat(vectors, dim=1))


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
