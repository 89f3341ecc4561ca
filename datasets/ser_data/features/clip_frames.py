"""Frames of many clips in one array, with the places where the clips begin."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Frames:
    """What mapped frames and those on a GPU have in common."""

    frames: Any  # an array, or a tensor: whoever only reads the cache need not load torch
    offsets: NDArray[np.int64]

    @property
    def dim(self) -> int:
        """Columns of a frame."""
        return int(self.frames.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each clip: int64, shape ``(num_clips,)``."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class ClipFrames(Frames):
    """Frames of a corpus, indexed like ``Corpus.clips``; a clip that was not asked for has no frames.

    Attributes:
        frames: float16, C-contiguous, shape ``(total_frames, dim)``; mapped from the cache, or in memory
        offsets: int64, shape ``(num_clips + 1,)``; clip *i* has rows ``offsets[i]`` to ``offsets[i + 1]``
    """

    frames: NDArray[np.float16]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, clip: int) -> NDArray[np.float16]:
        """One clip's frames: float16, shape ``(num_frames, dim)``, a view."""
        return self.frames[self.offsets[clip] : self.offsets[clip + 1]]

    @classmethod
    def of(cls, clips: Iterable[NDArray[np.float32]], *, dim: int) -> "ClipFrames":
        """Clips in memory, rounded to float16 as the cache rounds them.

        Args:
            clips: float32, shape ``(num_frames, dim)`` each
            dim: columns, also where there is no clip
        """
        rounded = [to_float16(clip) for clip in clips]
        offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in rounded], dtype=np.int64)]).astype(np.int64)
        frames = np.concatenate(rounded) if rounded else np.zeros((0, dim), dtype=np.float16)
        return cls(frames, offsets)


def to_float16(frames: NDArray[np.float32]) -> NDArray[np.float16]:
    """Frames as they are stored: 11 significant bits, at most ±65,504; what lies beyond is clipped.

    Args:
        frames: float32, any shape
    """
    largest = np.finfo(np.float16).max
    return np.clip(frames, -largest, largest).astype(np.float16)
