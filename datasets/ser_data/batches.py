"""Batches out of mapped features: gathered, scaled, padded, with the lengths that tell padding from signal."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from ser_data import batch_order
from ser_data.augment import SpecAugment
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.resident_frames import ResidentFrames
from ser_data.scaler import Scaling


@dataclass(frozen=True)
class Batch:
    """Some clips.

    Attributes:
        inputs: float32, shape ``(batch, frames, dim)``; scaled, zero behind a clip's end; where the features are
        lengths: int64, shape ``(batch,)``, frames of each clip; there too
        labels: int64, shape ``(batch,)``
        clips: int64, shape ``(batch,)``, the clips' indices in the corpus
    """

    inputs: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """What a model is called with: :attr:`inputs` and :attr:`lengths`."""
        return self.inputs, self.lengths


class Batches:
    """One set of clips, batch by batch, epoch by epoch.

    The clips are dealt evenly: batches of one epoch differ by one clip at most, so that there is no small last one.

    Args:
        features: frames, indexed like the corpus's clips; mapped, or resident on the device where the training is
        labels: int64, shape ``(num_clips,)``, of all of the corpus's clips
        indices: int64, the clips to give out
        batch_size: clips a batch, at most
        scaler: of the chosen columns
        columns: columns of *features* to use; None for all
        max_frames: a longer clip is cut to its first frames
        views: augmented features; each epoch draws for each clip the original or one of them
        spec_augment: masks on each batch
        shuffle: draw a new order each epoch. Without it clips come sorted by length and *views* and *spec_augment*
            must be left out, as for validation

    Attributes:
        seconds_spent: wall time that went into making batches, over all epochs so far
    """

    def __init__(
        self,
        features: ClipFrames | ResidentFrames,
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        scaler: Scaling,
        columns: NDArray[np.int64] | None = None,
        max_frames: int | None = None,
        views: Sequence[ClipFrames | ResidentFrames] = (),
        spec_augment: SpecAugment | None = None,
        shuffle: bool,
    ) -> None:
        self.seconds_spent = 0.0
        self._sources = (features, *views)
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self._indices = np.asarray(indices, dtype=np.int64)
        self._batch_size = batch_size
        self._columns = slice(None) if columns is None else _as_slice(np.asarray(columns, dtype=np.int64))
        self._scaler = scaler
        self._spec_augment = spec_augment
        self._shuffle = shuffle
        # (1 + views, clips): frames that each source would give for each clip
        self._lengths = np.stack([source.lengths[self._indices] for source in self._sources])
        if max_frames is not None:
            np.minimum(self._lengths, max_frames, out=self._lengths)
        self._starts = np.stack([source.offsets[self._indices] for source in self._sources])
        self._check(shuffle, views)

    def __len__(self) -> int:
        """Batches an epoch."""
        return batch_order.num_batches(len(self._indices), self._batch_size)

    def epoch(self, generator: torch.Generator | None) -> Iterator[Batch]:
        """All clips once.

        Args:
            generator: of order, views and masks; the same state gives the same epoch. Needed to shuffle, else unused
        """
        begun = time.perf_counter()
        sources, batches = self._plan(generator)
        for rows in batches:
            batch = self._gather(rows, sources[rows], generator)
            self.seconds_spent += time.perf_counter() - begun
            yield batch
            begun = time.perf_counter()  # what happens between two batches is not ours

    def _plan(self, generator: torch.Generator | None) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """The source of each clip, and the clips of each batch, both as positions in ``indices``."""
        num_clips = len(self._indices)
        sources = np.zeros(num_clips, dtype=np.int64)
        if self._shuffle and generator is not None:
            sources = torch.randint(len(self._sources), (num_clips,), generator=generator).numpy()
        lengths = self._lengths[sources, np.arange(num_clips)]
        return sources, batch_order.of_epoch(lengths, len(self), shuffle=self._shuffle, generator=generator)

    def _gather(self, rows: NDArray[np.int64], sources: NDArray[np.int64], generator: torch.Generator | None) -> Batch:
        lengths, starts = self._lengths[sources, rows], self._starts[sources, rows]
        # One contiguous copy a clip: slices of a mapped file come faster so than row by row through an index.
        slices = [
            self._sources[source].frames[start : start + length]
            for source, start, length in zip(sources.tolist(), starts.tolist(), lengths.tolist(), strict=True)
        ]
        flat = self._scaler.scale(_joined(slices, self._columns), lengths)
        if len(flat) == len(rows):  # one frame a clip: nothing to pad
            inputs = flat[:, None]
        else:
            inputs = pad_sequence(list(torch.split(flat, lengths.tolist())), batch_first=True)
        length_tensor = torch.from_numpy(lengths).to(inputs.device)
        if self._spec_augment is not None and generator is not None:
            inputs = self._spec_augment(inputs, length_tensor, generator)
        clips = torch.from_numpy(self._indices[rows])
        return Batch(inputs=inputs, lengths=length_tensor, labels=self._labels[clips], clips=clips)

    def _check(self, shuffle: bool, views: Sequence[ClipFrames | ResidentFrames]) -> None:
        if self._batch_size < 1:
            raise ValueError(f"batch_size={self._batch_size} must be at least 1")
        if not shuffle and (views or self._spec_augment is not None):
            raise ValueError("views and masks are for shuffled training batches")
        if (self._labels[torch.from_numpy(self._indices)] < 0).any():
            raise ValueError("clips without a label among the indices")
        if (self._lengths < 1).any():
            clip = self._indices[np.argwhere(self._lengths < 1)[0][1]]
            raise ValueError(f"clip {clip} has no frames in the features or in one of the views")


def _as_slice(columns: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Neighbouring columns as a slice: only they are then read, and not all first."""
    first = int(columns[0])
    return slice(first, first + len(columns)) if (np.diff(columns) == 1).all() else columns


def _joined(slices: list[Any], columns: slice | NDArray[np.int64]) -> torch.Tensor:
    """Columns of the clips' frames, one clip behind the other: float32, shape ``(total_frames, columns)``, a copy."""
    if isinstance(columns, slice):
        slices, columns = [part[:, columns] for part in slices], slice(None)
    if isinstance(slices[0], torch.Tensor):
        return torch.cat(slices)[:, columns].float()
    halves: NDArray[np.float16] = np.concatenate(slices)[:, columns]
    return torch.from_numpy(halves).float()


def class_weights(labels: NDArray[np.int64], num_classes: int) -> torch.Tensor:
    """Weights that make all classes count alike: inverse to their frequency, with mean 1.

    Args:
        labels: int64, shape ``(num_clips,)``, of the training clips
        num_classes: how many there are

    Returns:
        float32, shape ``(num_classes,)``; a class without clips gets 0, and the mean is taken over the others

    >>> class_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.5, 1.5]
    """
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    inverse = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
    present = inverse > 0
    return torch.from_numpy((inverse / inverse[present].mean()).astype(np.float32))
