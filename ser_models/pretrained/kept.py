"""Frozen networks that a process keeps for its next trials: as many as fit, the longest unused goes first."""

from collections import OrderedDict
from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, TypeVar

from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)

# Bytes of weights that a process keeps: two encoders of wav2vec 2.0's base size, or a dozen image backbones. A larger
# network is kept alone.
MAX_BYTES = 1_000_000_000


class KeptNetworks(Generic[_Network]):
    """Loads networks by their spec, and keeps those that were used last.

    Args:
        load: reads a network; called again for one that had to go
        max_bytes: what the weights of all may take together; the one used last is always kept
    """

    def __init__(self, load: Callable[[str], _Network], max_bytes: int = MAX_BYTES) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, _Network] = OrderedDict()
        update_wrapper(self, load)

    def __call__(self, spec: str) -> _Network:
        """The network that *spec* names, loaded or kept."""
        if spec not in self._kept:
            self._drop(self._max_bytes // 2, but=0)  # first: while one is read, it and the kept ones are in memory
            self._kept[spec] = self._load(spec)
            self._drop(self._max_bytes, but=1)
        self._kept.move_to_end(spec)
        return self._kept[spec]

    @property
    def specs(self) -> list[str]:
        """Which networks are kept, the longest unused first."""
        return list(self._kept)

    def cache_clear(self) -> None:
        """Keep none of them."""
        self._kept.clear()

    def _drop(self, max_bytes: int, *, but: int) -> None:
        """Let go of the longest unused until the rest fits, or *but* are left."""
        while len(self._kept) > but and sum(map(_num_bytes, self._kept.values())) > max_bytes:
            self._kept.popitem(last=False)


def _num_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
