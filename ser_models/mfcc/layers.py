"""Convolutions over time, ``(batch, channels, frames)``: padded frames are 0 before and after each layer."""

import torch
from torch import nn

from ser_models.masked_layers import ACTIVATIONS, MaskedBatchNorm, conv_mask, halve_time


class ConvBlock(nn.Module):
    """Two convolutions over time with a shortcut, after halving the time where *halve*."""

    def __init__(self, channels: int, kernel_size: int, activation: str, dropout: float, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.norms = nn.ModuleList(MaskedBatchNorm(channels) for _ in range(2))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2) for _ in range(2)
        )
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout1d(dropout)  # whole channels: as good here, and one draw a channel, not a frame

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.halve:
            frames, lengths = halve_time(frames, lengths)
        mask = conv_mask(frames, lengths)
        hidden = self.convolutions[0](self.activation(self.norms[0](frames, mask)))
        hidden = self.activation(self.norms[1](hidden * mask, mask))
        hidden = self.convolutions[1](self.dropout(hidden))
        return frames + hidden * mask, lengths


class ConvStack(nn.Module):
    """From ``dim`` features at the frame rate to ``channels`` at a lower one.

    The first convolution halves the time, and so does each of the first :data:`HALVING_BLOCKS` blocks: features of
    overlapping windows change little from frame to frame, and a recurrent layer behind pays for every step.
    """

    STRIDE = 2
    HALVING_BLOCKS = 1

    def __init__(self, dim: int, channels: int, blocks: int, kernel_size: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Conv1d(dim, channels, kernel_size, stride=self.STRIDE, padding=kernel_size // 2)
        self.blocks = nn.ModuleList(
            ConvBlock(channels, kernel_size, activation, dropout, halve=index < self.HALVING_BLOCKS)
            for index in range(blocks)
        )
        self.norm = MaskedBatchNorm(channels)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (batch, frames, dim) → (batch, fewer frames, channels), both 0 in the padding, and the new lengths."""
        frames = self.stem(inputs.transpose(1, 2).contiguous())
        lengths = (lengths + self.STRIDE - 1) // self.STRIDE
        frames = frames * conv_mask(frames, lengths)
        for block in self.blocks:
            frames, lengths = block(frames, lengths)
        frames = self.activation(self.norm(frames, conv_mask(frames, lengths)))
        return (frames * conv_mask(frames, lengths)).transpose(1, 2), lengths


def stack_frames(frames: torch.Tensor, lengths: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each *count* neighbours side by side: (batch, ceil(frames / count), dim * count), and the new lengths."""
    missing = -frames.shape[1] % count
    if missing:
        frames = nn.functional.pad(frames, (0, 0, 0, missing))
    return frames.unflatten(1, (-1, count)).flatten(2), (lengths + count - 1) // count
