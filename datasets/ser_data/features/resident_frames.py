"""Frames of many clips on a GPU, whole, so that no batch is sent there."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.clip_frames import ClipFrames, Frames


@dataclass(frozen=True, eq=False)
class ResidentFrames(Frames):
    """Frames of a corpus that lie on a GPU whole, so that no batch is sent there.

    Attributes:
        frames: float16, shape ``(total_frames, dim)``, on the device
        offsets: as in `ClipFrames`
    """

    frames: torch.Tensor
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, features: ClipFrames, device: str) -> "ResidentFrames":
        """A copy of *features* on *device*."""
        return cls(torch.from_numpy(np.array(features.frames)).to(device), features.offsets)
