"""SpecAugment on hidden states or on log-mel frames: drawn for all clips at once, on the device where they are."""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class SpanMasks:
    """Masks of whole spans, in the parameters that wav2vec 2.0's fine-tuning made usual (Baevski et al. 2020, B).

    A clip's spans start at different places, may overlap, lie within the clip, and are drawn so that *prob* is the
    share of frames that they would cover if none overlapped. They are drawn from torch's global generator, which a
    training seeds for each epoch.

    Attributes:
        time_prob: share of a clip's frames, in [0, 1]
        time_length: frames a span
        feature_prob: share of the columns, in [0, 1]
        feature_length: columns a span
    """

    time_prob: float
    time_length: int
    feature_prob: float
    feature_length: int

    def __call__(
        self, frames: torch.Tensor, lengths: torch.Tensor, mask_vector: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Frames with masks.

        Args:
            frames: (batch, frames, dim)
            lengths: int64 (batch,)
            mask_vector: (dim,), what a masked frame becomes; zeros by default, as masked columns do
        """
        batch, num_frames, dim = frames.shape
        if self.time_prob:
            masked = span_mask(lengths, num_frames, prob=self.time_prob, span=self.time_length)[:, :, None]
            if mask_vector is None:
                frames = frames.masked_fill(masked, 0.0)
            else:
                frames = torch.where(masked, mask_vector.to(frames.dtype), frames)
        if self.feature_prob:
            columns = torch.full((batch,), dim, device=frames.device)
            masked = span_mask(columns, dim, prob=self.feature_prob, span=self.feature_length)[:, None, :]
            frames = frames.masked_fill(masked, 0.0)
        return frames


def span_mask(lengths: torch.Tensor, size: int, *, prob: float, span: int) -> torch.Tensor:
    """True where a span lies.

    Args:
        lengths: int64 (batch,), positions of each row that may be masked, from the first
        size: positions of a row
        prob: expected share of positions in spans, were there no overlap
        span: positions a span; a row that is shorter gets none

    Returns:
        bool (batch, size), on the device of *lengths*
    """
    device = lengths.device
    draws = torch.rand(len(lengths), size + 1, device=device)
    # A fractional number of spans is rounded up as often as its fraction says.
    wanted = (prob * lengths / span + draws[:, 0]).long()
    possible = (lengths - span + 1).clamp(min=0)  # first positions of a span
    scores = draws[:, 1:].masked_fill(torch.arange(size, device=device) >= possible[:, None], -1.0)
    ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
    starts = (ranks < torch.minimum(wanted, possible)[:, None]).long()
    begun = starts.cumsum(dim=1)
    ended = functional.pad(begun, (span, 0))[:, :size]
    return begun > ended
