"""Augmentation of training clips: SpecAugment on a batch, and (from `ser_data.views`) changed waveforms."""

from dataclasses import dataclass

import torch

from ser_data.errors import UserError
from ser_data.views import Views, ViewSettings

__all__ = ["SpecAugment", "ViewSettings", "Views"]


@dataclass(frozen=True)
class SpecAugment:
    """Masks on scaled features (Park et al. 2019), drawn for each clip on its own, laid where the features are.

    A mask's width is drawn uniformly from 0 to the given one. A time mask lies within its clip and takes half of it at
    most, so that a short clip keeps something.

    Attributes:
        time_masks: masks over frames, a clip
        time_width_frames: their greatest width
        feature_masks: masks over columns, a clip
        feature_width: their greatest width, in columns of one block
        blocks: equal blocks that the columns consist of (static, Δ, ΔΔ): a coefficient is masked in all of them, since
            its deltas would tell what it was
    """

    time_masks: int = 0
    time_width_frames: int = 0
    feature_masks: int = 0
    feature_width: int = 0
    blocks: int = 1

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_width_frames", "feature_masks", "feature_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= 1_000:
                raise UserError(
                    f"{name}={value!r} is not possible. Accepted: whole numbers from 0 to 1000. Change {name}."
                )
        if self.blocks < 1:
            raise ValueError(f"blocks={self.blocks} must be at least 1")

    def __call__(self, inputs: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Masked inputs, 0 where a mask lies: the training mean, or the lowest value of a clip scaled to its range.

        Args:
            inputs: float32, shape ``(batch, frames, dim)``, on any device; changed in place
            lengths: int64, shape ``(batch,)``, on the same
            generator: a CPU's, so that every device gets the same masks; drawn from the same number of times whatever
                the lengths are

        Raises:
            ValueError: if the columns are not a multiple of `blocks`
        """
        batch, num_frames, dim = inputs.shape
        if dim % self.blocks:
            raise ValueError(f"{dim} columns cannot be {self.blocks} equal blocks")
        if self.time_masks and self.time_width_frames:
            largest = (lengths // 2).clamp(max=self.time_width_frames)[:, None].expand(batch, self.time_masks)
            masked = _bands(largest, lengths[:, None], num_frames, generator)  # (batch, frames)
            inputs.mul_(~masked[:, :, None])  # a tenth of the time of masked_fill_
        if self.feature_masks and self.feature_width:
            size = torch.tensor(dim // self.blocks, device=inputs.device)
            width = min(self.feature_width, dim // self.blocks)
            largest = torch.full((batch, self.feature_masks), width, device=inputs.device)
            masked = _bands(largest, size, dim // self.blocks, generator).repeat(1, self.blocks)  # (batch, dim)
            inputs.mul_(~masked[:, None, :])
        return inputs


def _bands(largest: torch.Tensor, ends: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Union of random bands of each clip.

    Args:
        largest: int64, shape ``(batch, masks)``, greatest width of each band
        ends: int64, broadcasts to *largest*; bands end there at the latest
        size: positions
        generator: two draws a band

    Returns:
        bool, shape ``(batch, size)``
    """
    draws = torch.rand(2, *largest.shape, generator=generator).to(largest.device)
    widths = (draws[0] * (largest + 1)).long()
    starts = (draws[1] * (ends - widths + 1)).long()
    positions = torch.arange(size, device=largest.device)
    inside = (positions >= starts[..., None]) & (positions < (starts + widths)[..., None])
    return inside.any(dim=1)
