"""What a process holds in memory beyond what it uses."""

import contextlib
import ctypes
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def give_back_freed_memory() -> None:
    """Let the C library return to the system what was freed: it keeps it for later, and a node has many workers."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc keeps no such heap
        ctypes.CDLL(None).malloc_trim(0)


def hold_gpu_memory_to(share: float) -> None:
    """Let this process hold no more than *share* of its GPU's memory, so that it cannot take its neighbours'.

    What it asks for beyond is out of memory to it, whatever is free. CUDA's own memory does not count.
    """
    import torch

    torch.cuda.set_per_process_memory_fraction(share)


def giving_back(work: Callable[_Arguments, _Result], *, every: int) -> Callable[_Arguments, _Result]:
    """*work*, before each *every*-th call of which freed memory is given back: doing so takes some milliseconds."""
    calls = 0

    def counted(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        nonlocal calls
        calls += 1
        if calls % every == 0:
            give_back_freed_memory()
        return work(*args, **kwargs)

    return counted
