"""Convolutions over bands and time, ``(batch, channels, bands, frames)``: padded frames are 0 before and after."""

import torch
from torch import nn

from ser_models.masked_layers import ACTIVATIONS, MaskedBatchNorm, conv_mask, halve_time

STEM_STRIDE = 2  # of bands and time alike; each block halves both once more


class Norm(nn.Module):
    """Batch normalisation over real frames, or nothing."""

    def __init__(self, channels: int, *, used: bool) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(channels) if used else None

    def forward(self, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return maps if self.norm is None else self.norm(maps, mask)


class MelBlock(nn.Module):
    """Halves bands and time, then two convolutions with a shortcut."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: tuple[int, int],
        activation: str,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.norms = nn.ModuleList(Norm(size, used=batch_norm) for size in (channels_in, channels))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(size, channels, kernel, padding=padding) for size in (channels_in, channels)
        )
        self.shortcut = nn.Conv2d(channels_in, channels, 1, bias=False) if channels_in != channels else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout2d(dropout)  # whole channels: neighbouring bands and frames tell the same

    def forward(self, maps: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps, lengths = halve_time(_halve_bands(maps), lengths)
        mask = conv_mask(maps, lengths)
        hidden = self.convolutions[0](self.activation(self.norms[0](maps, mask)))
        hidden = self.activation(self.norms[1](hidden * mask, mask))
        hidden = self.convolutions[1](self.dropout(hidden))
        return self.shortcut(maps) + hidden * mask, lengths


class MelStack(nn.Module):
    """From spectrograms to frames at a lower rate: a strided convolution, then blocks of doubling width.

    Args:
        num_mels: bands
        channels: of the input: log-mel alone, or with Δ and ΔΔ
        width: channels of the first block
        blocks: how many; each doubles the width up to four times the first
        kernel: size over bands and over time
        activation: by name
        dropout: share of channels
        batch_norm: whether to normalise

    Attributes:
        output_dim: columns of a frame that comes out: channels times the bands that are left
    """

    def __init__(
        self,
        num_mels: int,
        channels: int,
        *,
        width: int,
        blocks: int,
        kernel: tuple[int, int],
        activation: str,
        dropout: float,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        widths = [width * min(2**index, 4) for index in range(blocks)]
        self.channels = channels
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.stem = nn.Conv2d(channels, width, kernel, stride=STEM_STRIDE, padding=padding)
        self.blocks = nn.ModuleList(
            MelBlock(before, after, kernel, activation, dropout, batch_norm)
            for before, after in zip([width, *widths], widths, strict=False)
        )
        self.norm = Norm(widths[-1], used=batch_norm)
        self.activation = ACTIVATIONS[activation]()
        bands = -(-num_mels // STEM_STRIDE) // 2**blocks
        self.output_dim = widths[-1] * bands

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (batch, frames, channels · bands) to (batch, fewer frames, output_dim), 0 in the padding; lengths."""
        maps = inputs.unflatten(2, (self.channels, -1)).permute(0, 2, 3, 1)  # (batch, channels, bands, frames)
        maps = self.stem(maps)
        lengths = (lengths + STEM_STRIDE - 1) // STEM_STRIDE
        maps = maps * conv_mask(maps, lengths)
        for block in self.blocks:
            maps, lengths = block(maps, lengths)
        mask = conv_mask(maps, lengths)
        maps = self.activation(self.norm(maps, mask)) * mask
        return maps.flatten(1, 2).transpose(1, 2), lengths


def _halve_bands(maps: torch.Tensor) -> torch.Tensor:
    """Mean of each two neighbouring bands; an odd last one is dropped, as by ``avg_pool2d``, at a tenth of its time."""
    even = maps.shape[2] // 2 * 2
    return (maps[:, :, 0:even:2] + maps[:, :, 1:even:2]) * 0.5


def bands_needed(blocks: int) -> int:
    """Bands that are left to the last block as one."""
    return STEM_STRIDE * 2**blocks
