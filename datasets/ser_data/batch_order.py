"""Which clips share a batch: all batches of about one size, clips of about one length together."""

import numpy as np
import torch
from numpy.typing import NDArray

_POOL_BATCHES = 8  # batches' worth of clips that are sorted by length together: little padding, still well mixed


def num_batches(num_clips: int, batch_size: int) -> int:
    """Batches an epoch."""
    return -(-num_clips // batch_size)


def of_epoch(
    lengths: NDArray[np.int64], batches: int, *, shuffle: bool, generator: torch.Generator | None
) -> list[NDArray[np.int64]]:
    """The batches of one epoch: :func:`shuffled`, or :func:`by_length`.

    Raises:
        ValueError: if they are to be shuffled without a generator
    """
    if not shuffle:
        return by_length(lengths, batches)
    if generator is None:
        raise ValueError("shuffling needs a generator")
    return shuffled(lengths, batches, generator)


def by_length(lengths: NDArray[np.int64], batches: int) -> list[NDArray[np.int64]]:
    """All clips in the order of their lengths, dealt evenly to *batches*: int64 positions in *lengths* each.

    Batches differ by one clip at most, so that there is no small last one.
    """
    return _deal(np.argsort(lengths, kind="stable"), batches)


def shuffled(lengths: NDArray[np.int64], batches: int, generator: torch.Generator) -> list[NDArray[np.int64]]:
    """All clips in a random order in which those of a batch are of about one length, dealt evenly to *batches*.

    Args:
        lengths: frames of each clip
        batches: how many
        generator: two draws a call
    """
    order = torch.randperm(len(lengths), generator=generator).numpy()
    pools = np.array_split(order, max(1, round(batches / _POOL_BATCHES)))
    dealt = _deal(np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]), batches)
    return [dealt[number] for number in torch.randperm(len(dealt), generator=generator).tolist()]


def _deal(order: NDArray[np.int64], batches: int) -> list[NDArray[np.int64]]:
    return np.array_split(order, batches) if len(order) else []
