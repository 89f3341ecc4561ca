"""How features are scaled: by the training clips' mean and deviation of each column, or within each clip."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.clip_frames import ClipFrames

_ROWS_A_STEP = 16_384  # bounds the memory: 8 MB at 120 columns, which a core's cache nearly holds
_LEAST_STD = 1e-4  # a column that stands still is left unscaled and not blown up
_LEAST_RANGE = 1e-3  # likewise of a clip's block


@dataclass(frozen=True, eq=False)
class Scaler:
    """Brings each column to mean 0 and standard deviation 1.

    Attributes:
        mean: float32, shape ``(dim,)``
        std: float32, shape ``(dim,)``, never 0
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @property
    def inverse_std(self) -> NDArray[np.float32]:
        """float32, shape ``(dim,)``."""
        return np.float32(1) / self.std

    @classmethod
    def fit(
        cls, features: ClipFrames, indices: NDArray[np.int64], columns: NDArray[np.int64] | None = None
    ) -> "Scaler":
        """Mean and (population) standard deviation over all frames of some clips, read piece by piece.

        Args:
            features: frames of the corpus
            indices: int64, the training clips
            columns: columns to use, in this order; None for all

        Raises:
            ValueError: if the clips have no frames
        """
        dim = features.dim if columns is None else len(columns)
        count, mean, squares = 0, np.zeros(dim), np.zeros(dim)
        for piece in _pieces(features, np.sort(np.asarray(indices, dtype=np.int64))):
            rows = piece.float() if columns is None else piece[:, torch.from_numpy(columns)].float()
            average = rows.mean(dim=0)
            deviations = rows.sub_(average).square_().sum(dim=0)  # ten times faster than torch.var_mean
            # Means and sums of squares of two parts are joined as by Chan, Golub and LeVeque (1979).
            difference, total = average.double().numpy() - mean, count + len(rows)
            squares += deviations.double().numpy() + difference**2 * (count * len(rows) / total)
            mean += difference * (len(rows) / total)
            count = total
        if count == 0:
            raise ValueError("no frames to take a mean of")
        std = np.sqrt(squares / count)
        return cls(mean.astype(np.float32), np.where(std < _LEAST_STD, 1.0, std).astype(np.float32))

    def apply(self, frames: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scaled frames.

        Args:
            frames: float16 or float32, shape ``(…, dim)``

        Returns:
            float32, same shape
        """
        return np.asarray((frames.astype(np.float32) - self.mean) * self.inverse_std, dtype=np.float32)

    def scale(self, frames: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        """Scale the frames of some clips in place.

        Args:
            frames: float32, shape ``(total_frames, dim)``, clip behind clip
            lengths: int64, frames of each clip; they do not matter here
        """
        mean, inverse_std = (part.to(frames.device) for part in self._tensors)
        return frames.sub_(mean).mul_(inverse_std)

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.mean), torch.from_numpy(self.inverse_std)


@dataclass(frozen=True)
class ClipRange:
    """Brings each clip's lowest value to 0 and its highest to 1, in each block of columns on its own.

    Attributes:
        blocks: equal blocks that the columns consist of (static, Δ, ΔΔ)
    """

    blocks: int

    def apply(self, frames: NDArray[np.floating]) -> NDArray[np.float32]:
        """One clip's frames, float16 or float32 of shape ``(num_frames, dim)``, as float32 in [0, 1]."""
        scaled = self.scale(torch.from_numpy(frames.astype(np.float32)), np.array([len(frames)]))
        return np.asarray(scaled.numpy())

    def scale(self, frames: torch.Tensor, lengths: NDArray[np.int64]) -> torch.Tensor:
        """Scale the frames of some clips in place.

        Args:
            frames: float32, shape ``(total_frames, dim)``, clip behind clip
            lengths: int64, frames of each clip
        """
        for clip in torch.split(frames, lengths.tolist()):
            blocks = clip.view(len(clip), self.blocks, -1)
            low, high = blocks.amin(dim=(0, 2), keepdim=True), blocks.amax(dim=(0, 2), keepdim=True)
            blocks.sub_(low).div_((high - low).clamp(min=_LEAST_RANGE))
        return frames


Scaling = Scaler | ClipRange


def _pieces(features: ClipFrames, indices: NDArray[np.int64]) -> Iterator[torch.Tensor]:
    """The clips' frames in pieces of some `_ROWS_A_STEP` rows: float16, copies."""
    clips: list[NDArray[np.float16]] = []
    num_rows = 0
    for index in indices.tolist():
        clips.append(features[index])
        num_rows += len(clips[-1])
        if num_rows >= _ROWS_A_STEP:
            yield torch.from_numpy(np.concatenate(clips))
            clips, num_rows = [], 0
    if num_rows:
        yield torch.from_numpy(np.concatenate(clips))
