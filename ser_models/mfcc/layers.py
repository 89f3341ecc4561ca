"""Layers that leave padding out: a clip's output does not depend on what shares its batch.

Convolutions run on ``(batch, channels, frames)``, where padded frames are 0 before and after each layer.
"""

import torch
from torch import nn

from ser_models.pooling import frame_mask

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU}


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics come from real frames alone.

    ``nn.BatchNorm1d`` would count the padding as zeros, so that its running statistics would depend on how clips were
    batched; it also refuses a batch of one value, as the last batch of an epoch may be.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Args:
            frames: (batch, channels, frames), 0 in the padding
            mask: (batch, 1, frames), 1 inside and 0 in the padding

        Returns:
            (batch, channels, frames), 0 in the padding
        """
        if self.training:
            count = mask.sum()
            mean = frames.sum(dim=(0, 2)) / count
            var = (frames.square().sum(dim=(0, 2)) / count - mean.square()).clamp_min(0.0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(frames * scale[:, None], shift[:, None], mask)  # padding: 0 * scale + shift * 0


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


class BidirectionalLstm(nn.Module):
    """LSTM layers in both directions, each clip read backwards from its own last frame.

    The directions are two one-way LSTMs, the second on clips turned around within their lengths: the padding is only
    ever read after the last frame. On a CPU this runs in oneDNN, two to three times faster than a packed sequence.
    """

    def __init__(self, dim: int, hidden_units: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.output_dim = 2 * hidden_units
        dims = [dim] + [self.output_dim] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden_units, batch_first=True) for size in dims)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden_units, batch_first=True) for size in dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Frames (batch, frames, dim) → (batch, frames, 2 * hidden_units), 0 in the padding."""
        num_frames = frames.shape[1]
        mask = frame_mask(lengths, num_frames)[:, :, None]
        turned = turn_around(lengths, num_frames)
        for index, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if index:
                frames = self.dropout(frames)
            read_ahead, _ = ahead(frames)
            read_back, _ = back(take_frames(frames, turned))
            frames = torch.cat([read_ahead, take_frames(read_back, turned)], dim=2) * mask
        return frames


def turn_around(lengths: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Frame order that reverses each clip within its length and leaves its padding: int64 (batch, num_frames)."""
    order = torch.arange(num_frames, device=lengths.device).expand(len(lengths), -1)
    return torch.where(frame_mask(lengths, num_frames), lengths[:, None] - 1 - order, order)


def take_frames(frames: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Frames (batch, frames, dim) in the given order (batch, frames) of each clip."""
    return frames.gather(1, order[:, :, None].expand(-1, -1, frames.shape[2]))


def halve_time(frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each two neighbouring frames of (batch, channels, frames); a clip's odd last frame stands alone."""
    if frames.shape[2] % 2:
        frames = nn.functional.pad(frames, (0, 1))
    halved = (frames[:, :, ::2] + frames[:, :, 1::2]) * 0.5
    lengths_halved = (lengths + 1) // 2
    # Where the length is odd, the last pair holds one frame of padding, which is 0: undo its half.
    last = torch.arange(halved.shape[2], device=lengths.device) == (lengths_halved - 1)[:, None]
    alone = last & (lengths % 2 == 1)[:, None]
    return halved * (1.0 + alone[:, None, :]), lengths_halved


def stack_frames(frames: torch.Tensor, lengths: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each *count* neighbours side by side: (batch, ceil(frames / count), dim * count), and the new lengths."""
    missing = -frames.shape[1] % count
    if missing:
        frames = nn.functional.pad(frames, (0, 0, 0, missing))
    return frames.unflatten(1, (-1, count)).flatten(2), (lengths + count - 1) // count


def conv_mask(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """1 inside, 0 in the padding: (batch, 1, frames), in the frames' dtype."""
    return frame_mask(lengths, frames.shape[2])[:, None].to(frames.dtype)
