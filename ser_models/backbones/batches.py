"""Batches of what a trial reads: pooled vectors, maps out of the cache, or images made from cached frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data import batch_order
from ser_data.augment import SpecAugment
from ser_data.features.clip_frames import ClipFrames
from ser_models.backbones.images import ImageRecipe
from ser_models.prefix_cache import Ragged


@dataclass(frozen=True)
class BackboneBatch:
    """Some clips.

    Attributes:
        inputs: (batch, …), as a :class:`BackboneInputs` gives them
        labels: int64 (batch,)
        clips: int64 (batch,), the clips' indices in the corpus
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """What a `BackboneClassifier` is called with."""
        return (self.inputs,)


class BackboneInputs(Protocol):
    """What a trial reads of its clips."""

    def read(self, clips: NDArray[np.int64], generator: torch.Generator | None) -> torch.Tensor:
        """The inputs of *clips*, (batch, …); masks are drawn from *generator*, None for none."""
        ...


@dataclass(frozen=True, eq=False)
class PooledVectors:
    """Pooled vectors: float32 (batch, dim)."""

    pooled: Ragged

    def read(self, clips: NDArray[np.int64], generator: torch.Generator | None) -> torch.Tensor:
        return self.pooled.values[torch.from_numpy(self.pooled.offsets[clips])]


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of one stage: (batch, height, width, channels) in the cache's dtype."""

    maps: Ragged
    height: int
    width: int

    def read(self, clips: NDArray[np.int64], generator: torch.Generator | None) -> torch.Tensor:
        pixels = torch.stack([self.maps.item(int(clip)) for clip in clips])
        return pixels.unflatten(1, (self.height, self.width))


@dataclass(frozen=True, eq=False)
class Images:
    """Images: float32 (batch, 3, height, width)."""

    frames: ClipFrames
    recipe: ImageRecipe
    masks: SpecAugment | None

    def read(self, clips: NDArray[np.int64], generator: torch.Generator | None) -> torch.Tensor:
        own = [self.frames[int(clip)] for clip in clips]
        return self.recipe.images(own, masks=None if generator is None else self.masks, generator=generator)


class BackboneBatches:
    """One set of clips, batch by batch, epoch by epoch.

    Args:
        inputs: what a batch holds
        labels: int64 (num_clips,), of all of the corpus's clips
        indices: int64, the clips to give out
        batch_size: clips a batch, at most; batches of an epoch differ by one clip at most
        shuffle: draw a new order, and masks, each epoch; else the clips come as they stand
    """

    def __init__(
        self,
        inputs: BackboneInputs,
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        shuffle: bool,
    ) -> None:
        self._inputs = inputs
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self._indices = np.asarray(indices, dtype=np.int64)
        self._batch_size = batch_size
        self._shuffle = shuffle

    def __len__(self) -> int:
        """Batches an epoch."""
        return batch_order.num_batches(len(self._indices), self._batch_size)

    def epoch(self, generator: torch.Generator | None) -> Iterator[BackboneBatch]:
        """All clips once.

        Args:
            generator: of order and masks; the same state gives the same epoch. Needed to shuffle, else unused
        """
        alike = np.ones(len(self._indices), dtype=np.int64)
        drawn_from = generator if self._shuffle else None
        for positions in batch_order.of_epoch(alike, len(self), shuffle=self._shuffle, generator=generator):
            clips = self._indices[positions]
            places = torch.from_numpy(clips)
            yield BackboneBatch(self._inputs.read(clips, drawn_from), self._labels[places], places)
