"""From hidden states to logits: the mix of layers, the pooling over frames, and the classifier."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ser_models.classifier import mlp_classifier
from ser_models.encoders.plan import HeadPlan
from ser_models.pooling import AttentionPooling, MeanPooling, Pooling, StatisticsPooling


class LayerHead(nn.Module):
    """Mixes layers, pools frames, classifies.

    With mean and statistics pooling each layer is pooled on its own (for the mean this is the same as pooling the mix)
    and brought to mean 0 and deviation 1 over the training clips, as the linear probe does: frozen layers can then be
    pooled once and for all. With attention pooling the frames of the layers are normed and mixed first.

    Args:
        plan: its sizes
        num_states: hidden states that are mixed: L + 1, or 1 where the last alone is read
        hidden_size: columns of each
        num_classes: logits

    Attributes:
        shift: (num_states, pooled columns), means over the training clips
        scale: likewise, inverse standard deviations
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, plan: HeadPlan, *, num_states: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.layer_mix = plan.layer_mix
        self.pools_frames_of_mix = plan.pooling == "attention"
        copies = num_states if plan.layer_mix == "concat" else 1
        self.pooling: Pooling
        if self.pools_frames_of_mix:
            self.pooling = AttentionPooling(hidden_size * copies)
            mixed_dim = self.pooling.output_dim
            self.norm: nn.Module = nn.LayerNorm(mixed_dim)
        else:
            self.pooling = (StatisticsPooling if plan.pooling == "statistics" else MeanPooling)(hidden_size)
            mixed_dim = self.pooling.output_dim * copies
            self.register_buffer("shift", torch.zeros(num_states, self.pooling.output_dim))
            self.register_buffer("scale", torch.ones(num_states, self.pooling.output_dim))
        if plan.layer_mix == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(num_states))
        self.classifier = mlp_classifier(
            mixed_dim,
            hidden_layers=plan.hidden_layers,
            hidden_units=plan.hidden_units,
            dropout=plan.dropout,
            num_classes=num_classes,
        )

    def pool(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """One layer's frames (batch, frames, hidden) to its pooled vector (batch, columns)."""
        return self.pooling(_wide(frames), lengths)

    def classify_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits of pooled layers (batch, num_states, columns)."""
        normed = (pooled - self.shift) * self.scale
        if self.layer_mix == "concat":
            return self.classifier(normed.flatten(1))
        if self.layer_mix == "weighted":  # one product: a step of a frozen trial is a few milliseconds in all
            return self.classifier(torch.matmul(self.layer_weights.softmax(dim=0), normed))
        return self.classifier(normed[:, -1])

    def classify_frames(self, states: Sequence[torch.Tensor], lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the frames of num_states layers, (batch, frames, hidden) each, by attention."""
        normed = [functional.layer_norm(_wide(state), state.shape[-1:]) for state in states]
        if self.layer_mix == "concat":
            mixed = torch.cat(normed, dim=-1)
        elif self.layer_mix == "weighted":
            weights = self.layer_weights.softmax(dim=0)
            mixed = torch.stack([weight * state for weight, state in zip(weights, normed, strict=True)]).sum(dim=0)
        else:
            mixed = normed[-1]
        return self.classifier(self.norm(self.pooling(mixed, lengths)))


def _wide(frames: torch.Tensor) -> torch.Tensor:
    """Sums over frames are made in float32 at least."""
    return frames.float() if frames.dtype in (torch.bfloat16, torch.float16) else frames
