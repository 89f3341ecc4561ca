"""A node's folder of cached files: one process computes a file, the longest unused make room, errors say what to do."""

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ser_data import rows_file
from ser_data.errors import UserError
from ser_data.node_files import last_used, remove_unless_in_use

FRAMES_SUFFIX = ".frames"
PARTIAL_SUFFIX = ".partial"
"""Of files that are begun anew when their process was killed; those of `ser_data.rows_file` are gone on with."""

_LOCK = ".lock"
_WHOLE = (FRAMES_SUFFIX, rows_file.SUFFIX)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NodeFolder:
    """A folder of cached files, shared by all processes of a node.

    Args:
        folder: made when something is first locked in it
        max_bytes: what the files may take together, whoever wrote them
        called: what messages call it
    """

    def __init__(self, folder: Path, max_bytes: int, *, called: str) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.called = called

    @contextmanager
    def locked(self, names: Iterable[str]) -> Iterator[None]:
        """Hold the locks of several files, always taken in one order.

        Args:
            names: of the files, without suffix
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            for name in sorted(set(names)):
                held.enter_context(FileLock(self.folder / f"{name}{_LOCK}"))
            yield

    def make_room(self, needed: int, *, writing: Collection[Path], what: str) -> None:
        """Remove the longest unused files until *needed* bytes fit below the cap.

        Args:
            needed: bytes
            writing: the files that they are for, which the caller has locked; neither they nor what is unfinished of
                them is counted or removed
            what: subject and verb of the message, such as ``"mfcc features of CREMA-D take"``

        Raises:
            UserError: if they are more than the cap
        """
        if needed > self.max_bytes:
            raise UserError(
                f"the {what} {size_text(needed)}, more than the {size_text(self.max_bytes)} of the cache "
                f"{self.folder}. Give --cache-gb {needed / 1e9 + 0.1:.1f} or more."
            )
        with FileLock(self.folder / f"removal{_LOCK}"):
            self._remove_abandoned(but={path.with_suffix(PARTIAL_SUFFIX) for path in writing})
            spared = {*writing, *(path.with_suffix(rows_file.PARTIAL_SUFFIX) for path in writing)}
            sizes: dict[Path, int] = {}
            for suffix in (*_WHOLE, rows_file.PARTIAL_SUFFIX):
                for file in set(self.folder.glob(f"*{suffix}")) - spared:
                    with suppress(FileNotFoundError):  # removed by hand in this moment
                        sizes[file] = file.stat().st_size
            excess = sum(sizes.values()) + needed - self.max_bytes
            for file in sorted(sizes, key=last_used):
                if excess <= 0:
                    break
                if _removed(file):
                    excess -= sizes[file]

    @contextmanager
    def explained(self, *, needed: int) -> Iterator[None]:
        """Turn a full disk and a folder that cannot be written into a `UserError`.

        Args:
            needed: bytes that are to be written, for the message
        """
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise FullDiskError(
                    f"the disk of the {self.called} {self.folder} is full: {size_text(needed)} are needed, "
                    f"{size_text(self.free_bytes())} are free. Free some space, or name another folder with "
                    "--cache-dir."
                ) from error
            if isinstance(error, (PermissionError, FileExistsError, NotADirectoryError)) or error.errno == errno.EROFS:
                raise UserError(
                    f"the {self.called} {self.folder} cannot be written: {error.strerror}. "
                    "Name a folder that can be with --cache-dir."
                ) from error
            raise

    def free_bytes(self) -> int:
        """What is free on the disk of the folder."""
        existing = next(parent for parent in (self.folder, *self.folder.parents) if os.path.isdir(parent))
        return shutil.disk_usage(existing).free

    def _remove_abandoned(self, *, but: Collection[Path]) -> None:
        """Remove what killed processes left half-written; a living one holds the lock of what it writes."""
        for abandoned in self.folder.glob(f"*{PARTIAL_SUFFIX}"):
            if abandoned not in but:
                with suppress(Timeout, OSError), FileLock(abandoned.with_suffix(_LOCK), timeout=0):
                    abandoned.unlink()


class FullDiskError(UserError):
    """The disk of a cache is full."""


def size_text(num_bytes: int) -> str:
    """A size for people.

    >>> size_text(1_230_000_000), size_text(4_560_000)
    ('1.23 GB', '4.6 MB')
    """
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def _removed(file: Path) -> bool:
    if file.suffix in _WHOLE:
        return remove_unless_in_use(file)
    with suppress(Timeout, OSError), FileLock(file.with_suffix(_LOCK), timeout=0):
        rows_file.remove_partial(file)
        return True
    return False
