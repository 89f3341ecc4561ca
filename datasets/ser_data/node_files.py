"""Cached files that the processes of one node share: who uses one, when it was last used, and whether it was checked.

A user of a file holds a shared lock on it for as long as it is mapped, so that `remove_unless_in_use` in another
process knows of it.

Which checks a file has passed is remembered in a small stamp beside it: the whole file is read and summed when it is
first opened on a node, and again whenever its size, time or place on disk differ from the stamp's. The stamp's own time
is the time of the last use.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

STAMP_SUFFIX = ".checked"


class DamagedFileError(Exception):
    """A cached file that is not what was once written; the message says in what."""


@contextmanager
def opened_for_use(path: Path) -> Iterator[BinaryIO]:
    """Open a file under a shared lock, which lasts as long as any duplicate of the descriptor, as a mapping has one.

    Raises:
        FileNotFoundError: if there is none
    """
    with path.open("rb") as file:
        lock_shared(file)
        if os.fstat(file.fileno()).st_nlink == 0:  # removed between our opening and our lock
            raise FileNotFoundError(path)
        yield file


def lock_shared(file: BinaryIO) -> None:
    """Say that *file* is in use until its descriptor and all duplicates of it are closed."""
    _lock(file, fcntl.LOCK_SH)


def is_in_use(file: BinaryIO) -> bool:
    """Whether somebody said so of *file* and has not closed it; asking leaves no lock behind once it is closed."""
    return not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_once(path: Path, file: BinaryIO, checksum: Callable[[], str], expected: str) -> None:
    """Sum a file unless its stamp says that this was done, and mark it as used now.

    Args:
        path: where it is
        file: opened there
        checksum: reads it all
        expected: what that must give

    Raises:
        DamagedFileError: if it differs
    """
    if _read_stamp(path) != _identity(file):
        if checksum() != expected:
            raise DamagedFileError("its checksum differs")
        write_stamp(path, file)
    with suppress(OSError):  # a read-only cache is as good, it only forgets what was used last
        os.utime(path.with_suffix(STAMP_SUFFIX))


def write_stamp(path: Path, file: BinaryIO) -> None:
    """Remember that the file at *path*, opened as *file*, is whole as it is now."""
    with suppress(OSError):  # without a stamp the next opening checks again
        path.with_suffix(STAMP_SUFFIX).write_text(_identity(file))


def last_used(path: Path) -> float:
    """When a file was last opened, in seconds since the epoch; when it was written, if it never was."""
    for candidate in (path.with_suffix(STAMP_SUFFIX), path):
        with suppress(OSError):
            return candidate.stat().st_mtime
    return 0.0


def remove_unless_in_use(path: Path) -> bool:
    """Remove a file and its stamp, unless some process has it mapped; returns whether it is gone.

    Removing a mapped file would not hurt its user (its pages stay until the mapping is let go), but would free nothing
    now, and cost the next user its computation.
    """
    try:
        with path.open("rb") as file:
            if not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError:  # somebody else's file in a shared folder
        return False
    with suppress(OSError):
        path.with_suffix(STAMP_SUFFIX).unlink()
    return True


def _lock(file: BinaryIO, operation: int) -> bool:
    try:
        fcntl.flock(file.fileno(), operation)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without such locks: removal is harmless there, see remove_unless_in_use
    return True


def _identity(file: BinaryIO) -> str:
    status = os.fstat(file.fileno())
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _read_stamp(path: Path) -> str:
    try:
        return path.with_suffix(STAMP_SUFFIX).read_text()
    except (OSError, UnicodeDecodeError):
        return ""
