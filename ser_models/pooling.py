"""From a clip's frames to one vector, padding left out.

Each takes frames ``(batch, frames, dim)`` and lengths ``(batch,)`` of at least 1, and gives ``(batch, output_dim)``.
What stands in the padding does not matter, also if it is not finite.
"""

from collections.abc import Callable

import torch
from torch import nn

POOLINGS = ("mean", "max", "statistics", "attention")


def frame_mask(lengths: torch.Tensor, num_frames: int) -> torch.Tensor:
    """True where a frame belongs to its clip: bool (batch, num_frames)."""
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]


class Pooling(nn.Module):
    """What all poolings share.

    Attributes:
        output_dim: columns of the pooled vector
    """

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.output_dim = output_dim


class MeanPooling(Pooling):
    """Mean over a clip's own frames."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return _masked_mean(frames, lengths)


class MaxPooling(Pooling):
    """Maximum over a clip's own frames."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        outside = ~frame_mask(lengths, frames.shape[1])[:, :, None]
        return frames.masked_fill(outside, -torch.inf).amax(dim=1)


class StatisticsPooling(Pooling):
    """Mean and standard deviation over a clip's own frames, side by side (Snyder et al. 2018, x-vectors)."""

    def __init__(self, dim: int) -> None:
        super().__init__(2 * dim)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mean = _masked_mean(frames, lengths)
        return torch.cat([mean, _root(_masked_mean((frames - mean[:, None]).square(), lengths))], dim=1)


class AttentionPooling(Pooling):
    """Weighted mean and standard deviation, the weights from a small network (Okabe et al. 2018)."""

    def __init__(self, dim: int, hidden_dim: int = 64) -> None:
        super().__init__(2 * dim)
        self.score = nn.Sequential(nn.Linear(dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, 1, bias=False))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = frame_mask(lengths, frames.shape[1])[:, :, None]
        frames = frames.masked_fill(~inside, 0.0)
        weights = self.score(frames).masked_fill(~inside, -torch.inf).softmax(dim=1)  # (batch, frames, 1)
        mean = (weights * frames).sum(dim=1)
        variance = (weights * (frames - mean[:, None]).square()).sum(dim=1)
        return torch.cat([mean, _root(variance)], dim=1)


def build_pooling(name: str, dim: int) -> Pooling:
    """The pooling called *name*, one of :data:`POOLINGS`.

    Args:
        name: the pooling
        dim: columns of a frame

    Raises:
        ValueError: if the name is not known
    """
    kinds: dict[str, Callable[[int], Pooling]] = {
        "mean": MeanPooling,
        "max": MaxPooling,
        "statistics": StatisticsPooling,
        "attention": AttentionPooling,
    }
    if name not in kinds:
        raise ValueError(f"pooling {name!r} is not known; known are {', '.join(POOLINGS)}")
    return kinds[name](dim)


def _masked_mean(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    inside = frame_mask(lengths, frames.shape[1])[:, :, None]
    return frames.masked_fill(~inside, 0.0).sum(dim=1) / lengths[:, None]


def _root(variance: torch.Tensor) -> torch.Tensor:
    # The slope of the root at 0 is infinite, and a clip of one frame has variance 0.
    return (variance + 1e-6).sqrt()
