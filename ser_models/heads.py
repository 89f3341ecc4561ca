"""What stands on top of a network that reads frames."""

import torch
from torch import nn

from ser_models.masked_layers import ACTIVATIONS


class Head(nn.Module):
    """From a clip's vector to logits, through a hidden layer of :data:`UNITS`."""

    UNITS = 64

    def __init__(self, dim: int, num_classes: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Dropout(dropout),
            nn.Linear(dim, self.UNITS),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(self.UNITS, num_classes),
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.layers(vectors)
