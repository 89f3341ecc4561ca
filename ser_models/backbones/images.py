"""From log-mel frames to what an image network reads: one rule, for every backbone.

1. A clip is its first ``max_clip_seconds``: longer ones are cut there, shorter ones padded behind.
2. Each channel (log-mel; Δ and ΔΔ where they are channels of their own) is brought to [0, 1] by the smallest and the
   largest value of the clip's own frames. Padding takes no part in that.
3. Padding is silence. Of the log-mel channel that is 0: the corpus's floor lies at or below the quietest cell of any
   clip, whatever it is, and never at its loudest. Of Δ and ΔΔ it is where "no change" came to lie.
4. One channel is repeated three times, three are taken as they are, and ImageNet's mean is subtracted and its deviation
   divided by, as the networks were trained.
5. Rows are mel bands, the lowest first, columns are frames. ``image_size`` keeps that size or resizes it (bilinear).

SpecAugment's masks lie on the image before it is resized, and are 0 there: ImageNet's mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ser_data.augment import SpecAugment
from ser_data.features.settings import LogMelSettings
from ser_models.backbones.source import IMAGE_CHANNELS

CHANNELS = (1, IMAGE_CHANNELS)  # log-mel alone, or with Δ and ΔΔ
NATIVE = "native"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, in [0, 1]


@dataclass(frozen=True)
class ImageRecipe:
    """How clips become images.

    Attributes:
        settings: the frames that are cached: log-mel alone, which is repeated, or with Δ and ΔΔ
        max_clip_seconds: how much of a clip, from its start, an image shows
        image_size: ``"native"`` (mel bands × frames), or pixels a side
    """

    settings: LogMelSettings
    max_clip_seconds: float
    image_size: str | int

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"frames with {self.settings.deltas} deltas fill {self.channels} channels, not 1 or 3")

    @property
    def channels(self) -> int:
        """Channels that the frames fill: one, which is repeated, or all three."""
        return 1 + self.settings.deltas

    @property
    def num_frames(self) -> int:
        """Columns of an image before it is resized."""
        return self.settings.frames_in(self.max_clip_seconds)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.settings.num_mels, self.num_frames

    def key(self) -> dict[str, Any]:
        """All that an image depends on besides the clip, as values that JSON takes."""
        return {
            "features": self.settings.to_dict(),
            "max_clip_seconds": self.max_clip_seconds,
            "image_size": self.image_size,
        }

    def images(
        self,
        clips: Sequence[NDArray[np.floating[Any]]],
        *,
        masks: SpecAugment | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The images of some clips.

        Args:
            clips: (frames, dim) each, as the settings lay them out, at least one frame
            masks: of three blocks; None for none
            generator: of the masks

        Returns:
            float32 (clips, 3, height, width)
        """
        num_bands, planes = self.settings.num_mels, self.channels
        scaled = [self._scaled(clip[: self.num_frames, : planes * num_bands], planes) for clip in clips]
        lengths = torch.tensor([len(own) for own, _ in scaled])
        canvas = pad_sequence([own for own, _ in scaled], batch_first=True)  # (clips, frames, planes, bands)
        canvas = functional.pad(canvas, (0, 0, 0, 0, 0, self.num_frames - canvas.shape[1]))
        outside = torch.arange(self.num_frames) >= lengths[:, None]
        silence = torch.stack([padding for _, padding in scaled])  # (clips, planes)
        canvas = torch.where(outside[:, :, None, None], silence[:, None, :, None], canvas)
        mean, deviation = torch.tensor(_MEAN)[:, None], torch.tensor(_STD)[:, None]
        normed = (canvas - mean) / deviation  # one plane becomes three here
        if masks is not None:
            assert generator is not None, "masks need a generator"
            flat = masks(normed.flatten(2), lengths, generator)
            normed = flat.view(len(clips), self.num_frames, IMAGE_CHANNELS, num_bands)
        pixels = normed.permute(0, 2, 3, 1)
        if self.size != (num_bands, self.num_frames):
            pixels = functional.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _scaled(self, frames: NDArray[np.floating[Any]], planes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A clip's own frames in [0, 1], (frames, planes, bands), and what silence is in each plane, (planes,)."""
        own = torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).view(len(frames), planes, -1)
        low, high = own.amin(dim=(0, 2)), own.amax(dim=(0, 2))
        span = torch.where(high > low, high - low, torch.ones_like(low))  # a plane that stands still is 0
        silence = (-low / span).clamp(0.0, 1.0)
        silence[0] = 0.0  # 0 dB is no silence
        return (own - low[:, None]) / span[:, None], silence
