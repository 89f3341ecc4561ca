"""The family's networks: features ``(batch, frames, dim)``, lengths ``(batch,)`` → logits ``(batch, num_classes)``.

All take batches whose padded frames are 0, and give a clip the same logits whatever shares its batch (in eval mode).
"""

import torch
from torch import nn

from ser_models.heads import Head
from ser_models.masked_layers import ACTIVATIONS
from ser_models.mfcc.layers import ConvStack, stack_frames
from ser_models.pooling import AttentionPooling, build_pooling, frame_mask
from ser_models.recurrent import BidirectionalLstm


class StatisticsMlp(nn.Module):
    """Fully connected layers on one vector of statistics a clip (``frames`` is 1)."""

    def __init__(
        self, dim: int, num_classes: int, *, hidden_units: int, hidden_layers: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in [dim] + [hidden_units] * (hidden_layers - 1):
            layers += [nn.Linear(size, hidden_units), nn.LayerNorm(hidden_units), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_units, num_classes))

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs[:, 0])


class BiLstm(nn.Module):
    """Bidirectional LSTM over groups of frames.

    Every :data:`STACKED_FRAMES` frames are read in one step (Sak et al. 2015): at a hop of 10 ms neighbours are nearly
    the same, and the steps of an LSTM cannot run side by side.
    """

    STACKED_FRAMES = 4

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        hidden_units: int,
        recurrent_layers: int,
        pooling: str,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.entrance = nn.Sequential(
            nn.Linear(dim * self.STACKED_FRAMES, hidden_units),
            nn.LayerNorm(hidden_units),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
        )
        self.recurrent = BidirectionalLstm(hidden_units, hidden_units, recurrent_layers, dropout)
        self.pooling = build_pooling(pooling, self.recurrent.output_dim)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        frames, lengths = stack_frames(inputs, lengths, self.STACKED_FRAMES)
        return self.head(self.pooling(self.recurrent(self.entrance(frames), lengths), lengths))


class Cnn(nn.Module):
    """Residual convolutions over time."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        blocks: int,
        kernel_size: int,
        pooling: str,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.convolutions = ConvStack(dim, channels, blocks, kernel_size, activation, dropout)
        self.pooling = build_pooling(pooling, channels)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.head(self.pooling(*self.convolutions(inputs, lengths)))


class Crnn(nn.Module):
    """Residual convolutions, then a bidirectional LSTM over the shortened time."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        blocks: int,
        kernel_size: int,
        hidden_units: int,
        recurrent_layers: int,
        pooling: str,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.convolutions = ConvStack(dim, channels, blocks, kernel_size, activation, dropout)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = BidirectionalLstm(channels, hidden_units, recurrent_layers, dropout)
        self.pooling = build_pooling(pooling, self.recurrent.output_dim)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        frames, lengths = self.convolutions(inputs, lengths)
        return self.head(self.pooling(self.recurrent(self.dropout(frames), lengths), lengths))


class CrnnAttention(nn.Module):
    """As :class:`Crnn`, with self-attention over the recurrent outputs and pooling by attention."""

    HEADS = 4

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        blocks: int,
        kernel_size: int,
        hidden_units: int,
        recurrent_layers: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.convolutions = ConvStack(dim, channels, blocks, kernel_size, activation, dropout)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = BidirectionalLstm(channels, hidden_units, recurrent_layers, dropout)
        size = self.recurrent.output_dim
        self.norm = nn.LayerNorm(size)
        head_size = max(size // self.HEADS, 1)
        self.projections = nn.Linear(size, 3 * self.HEADS * head_size)
        self.mix = nn.Linear(self.HEADS * head_size, size)
        self.pooling = AttentionPooling(size)
        self.head = Head(self.pooling.output_dim, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        frames, lengths = self.convolutions(inputs, lengths)
        frames = self.recurrent(self.dropout(frames), lengths)
        return self.head(self.pooling(frames + self.dropout(self._attend(frames, lengths)), lengths))

    def _attend(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = frame_mask(lengths, frames.shape[1])[:, None, None, :]  # (batch, heads, queries, keys)
        heads = self.projections(self.norm(frames)).unflatten(2, (3, self.HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=inside)
        return self.mix(mixed.transpose(1, 2).flatten(2))


NETWORKS = {
    "statistics_mlp": StatisticsMlp,
    "bilstm": BiLstm,
    "cnn": Cnn,
    "crnn": Crnn,
    "crnn_attention": CrnnAttention,
}
