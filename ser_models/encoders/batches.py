"""Batches out of cached prefixes: padded frames, the pooled frozen layers, or both."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from ser_data import batch_order
from ser_models.data_parallel import Share, SharedBatch
from ser_models.encoders.prefix import Rows


@dataclass(frozen=True)
class EncoderBatch:
    """Some clips.

    Attributes:
        frames: (batch, frames, dim) in the cache's dtype, zero behind a clip's end; (batch, 0) where none are read
        lengths: int64 (batch,), frames of each clip
        pooled: float32 (batch, columns) of the pooled frozen layers; (batch, 0) where none are read
        labels: int64 (batch,)
        clips: int64 (batch,), the clips' indices in the corpus
    """

    frames: torch.Tensor
    lengths: torch.Tensor
    pooled: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """What an `EncoderClassifier` is called with."""
        return self.frames, self.lengths, self.pooled


@dataclass(frozen=True, eq=False)
class EncoderInputs:
    """What a trial reads of the prefixes.

    Attributes:
        frames: of its boundary; None if it reads none
        pooled: of all layers; None if it reads none
        pooled_ranges: (first, stop) columns of *pooled* that it reads
    """

    frames: Rows | None
    pooled: Rows | None
    pooled_ranges: tuple[tuple[int, int], ...]

    def lengths(self, clips: NDArray[np.int64]) -> NDArray[np.int64]:
        """Frames of each clip; 1 where no frames are read."""
        return np.ones(len(clips), dtype=np.int64) if self.frames is None else self.frames.lengths(clips)

    def batch(self, clips: NDArray[np.int64], labels: torch.Tensor) -> EncoderBatch:
        """The batch of *clips*; *labels* are all clips'."""
        nothing = torch.zeros(len(clips), 0)
        frames = nothing
        if self.frames is not None:
            frames = pad_sequence([self.frames.item(int(clip)) for clip in clips], batch_first=True)
        pooled = nothing
        if self.pooled is not None:
            parts = [self.pooled.vectors(clips, first, stop) for first, stop in self.pooled_ranges]
            pooled = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        places = torch.from_numpy(clips)
        return EncoderBatch(frames, torch.from_numpy(self.lengths(clips)), pooled, labels[places], places)


class EncoderBatches:
    """One set of clips, batch by batch, epoch by epoch; clips of a batch are of about one length.

    Args:
        inputs: what a batch holds
        labels: int64 (num_clips,), of all of the corpus's clips
        indices: int64, the clips to give out
        batch_size: clips a batch, at most
        shuffle: draw a new order each epoch; else they come sorted by length
    """

    def __init__(
        self,
        inputs: EncoderInputs,
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
        self._lengths = inputs.lengths(self._indices)

    def __len__(self) -> int:
        """Batches an epoch."""
        return batch_order.num_batches(len(self._indices), self._batch_size)

    def epoch(self, generator: torch.Generator | None) -> Iterator[EncoderBatch]:
        """All clips once.

        Args:
            generator: of the order; the same state gives the same epoch. Needed to shuffle, else unused
        """
        for positions in self._dealt(generator):
            yield self._inputs.batch(self._indices[positions], self._labels)

    def shares(self, generator: torch.Generator | None, share: Share) -> Iterator[SharedBatch]:
        """As :meth:`epoch`, of each batch the clips that are a rank's; no others are read."""
        for positions in self._dealt(generator):
            own = share.of(positions)
            clips = self._indices[own if len(own) else positions[:1]]
            labels = self._labels[torch.from_numpy(self._indices[positions])]
            yield SharedBatch(self._inputs.batch(clips, self._labels), labels, 1.0 if len(own) else 0.0)

    def _dealt(self, generator: torch.Generator | None) -> list[NDArray[np.int64]]:
        return batch_order.of_epoch(self._lengths, len(self), shuffle=self._shuffle, generator=generator)
