"""One training in several processes, its ranks: each takes a share of every batch, and their gradients are summed.

All ranks build the same trial from the same seed, go through the same batches in the same order and take the same
steps, so after every step they have the same weights. No wrapper around the network: which parameters have a gradient
changes within a trial (frozen layers, adapters, layers that thaw), and a sum of what is there needs to know none of it.
How the processes are started and led: :mod:`ser_models.ranks`.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn

from ser_models.micro_batches import TrainingBatch

_PATIENCE = timedelta(minutes=10)  # of a rank that waits for another's part of a sum


class PeerFailedError(RuntimeError):
    """Another rank of this training is gone."""


@dataclass(frozen=True)
class Share:
    """Which clips of every batch are a rank's.

    Attributes:
        rank: from 0, which leads
        ranks: how many there are
    """

    rank: int = 0
    ranks: int = 1

    def of(self, clips: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of a batch's *clips*, which lie in the order of their lengths: all shares are to take as long.

        >>> Share(1, 2).of(np.array([10, 11, 12, 13, 14])).tolist()
        [11, 13]
        """
        return clips[self.rank :: self.ranks]


@dataclass(frozen=True, eq=False)
class SharedBatch:
    """A batch as one rank sees it.

    Attributes:
        own: the rank's clips; a clip of another's where there are fewer clips than ranks and none is left
        labels: int64 (batch,), of all clips of the batch
        weight: 1; 0 where *own* is another's, and counts for nothing
    """

    own: TrainingBatch
    labels: torch.Tensor
    weight: float = 1.0


@runtime_checkable
class SharedSource(Protocol):
    """A source of batches that ranks can share; :class:`ser_models.encoders.batches.EncoderBatches` is one."""

    def shares(self, generator: torch.Generator | None, share: Share) -> Iterator[SharedBatch]:
        """The batches of one epoch, in the order that ``epoch`` has them for the same *generator*."""
        ...


class Group:
    """The ranks of a training, as one of them sees them. By default one that is alone, for whom all of it is nothing.

    Args:
        share: which one this is. Several are joined by torch's process group: gloo for tensors on the CPU, NCCL for
            those on a GPU
    """

    def __init__(self, share: Share | None = None) -> None:
        self.share = share or Share()

    def begin_epoch(self, epoch: int) -> None:
        """Called by the rank that leads before an epoch: the others are to train it too."""

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every parameter that has a gradient the sum of its gradients on all ranks.

        One sum for all of them: a step of the layers that searches train is short, and many small sums cost latency.

        Raises:
            PeerFailedError: another rank is gone
        """
        if self.share.ranks == 1:
            return
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in trained])
        if flat.is_cuda:
            # NCCL would wait on the GPU for a rank that is gone, and this one for the GPU: first a word on the CPU
            self._add_up(torch.zeros(1))
        self._add_up(flat)
        parts = torch.split(flat, [parameter.numel() for parameter in trained])
        for parameter, part in zip(trained, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """*values* of all ranks together.

        Raises:
            PeerFailedError: another rank is gone
        """
        if self.share.ranks > 1:
            self._add_up(values)
        return values

    def _add_up(self, values: torch.Tensor) -> None:
        try:
            torch.distributed.all_reduce(values)
        except RuntimeError as error:  # gloo's word for a connection that was closed
            raise PeerFailedError(f"another rank of this training is gone ({error})") from error


ALONE = Group()


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def join_group(share: Share, device: str, folder: Path) -> None:
    """Make this process one of a process group, once all the others do so too.

    Args:
        share: its rank, and how many there are
        device: torch's name of where they train
        folder: in which they find one another, for this group alone
    """
    if sys.platform == "linux":  # they are on one machine: nothing of it is to be heard from outside
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo",
        init_method=f"file://{folder / 'group'}",
        rank=share.rank,
        world_size=share.ranks,
        timeout=_PATIENCE,
    )


def leave_group(device: str) -> None:
    """Leave the group, whose other ranks may be gone."""
    if device.startswith("cuda"):  # NCCL would wait for them
        torch.distributed.distributed_c10d._abort_process_group()
    else:
        torch.distributed.destroy_process_group()
