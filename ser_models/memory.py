"""What a process holds in memory beyond what it uses."""

import contextlib
import ctypes


def give_back_freed_memory() -> None:
    """Let the C library return to the system what was freed: it keeps it for later, and a node has many workers."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc keeps no such heap
        ctypes.CDLL(None).malloc_trim(0)
