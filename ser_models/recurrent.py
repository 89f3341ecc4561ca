"""Recurrent layers that leave padding out."""

import torch
from torch import nn

from ser_models.pooling import frame_mask


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
