"""One cached file of rows whose places are known beforehand: written in any order, resumed after a kill, mapped.

While it is written the file has a name of its own, and a small progress file beside it says how many steps of which
plan are on the disk. Both survive a killed process, and a later writer goes on behind the last step that was synced.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ser_data.node_files import DamagedFileError, check_once, lock_shared, opened_for_use, write_stamp
from ser_data.ragged_file import Layout, checksum, complete, read_header, read_offsets

SUFFIX = ".rows"
PARTIAL_SUFFIX = ".rows-partial"
PROGRESS_SUFFIX = ".rows-progress"

_MAGIC = b"SERROWS1"


@dataclass(frozen=True, eq=False)
class RowsLayout:
    """What a file of rows holds.

    Attributes:
        key: all that the numbers depend on, compared when the file is opened; JSON values
        offsets: int64, shape ``(num_items + 1,)``; item *i* has rows ``offsets[i]`` to ``offsets[i + 1]``
        dim: columns
        dtype: little-endian type of a value
    """

    key: dict[str, Any]
    offsets: NDArray[np.int64]
    dim: int
    dtype: np.dtype[Any]

    @property
    def in_bytes(self) -> Layout:
        """Where the parts of the file lie."""
        return Layout(len(self.offsets) - 1, self.dim * self.dtype.itemsize)

    @property
    def total_bytes(self) -> int:
        """Size of the file."""
        return self.in_bytes.total_bytes(int(self.offsets[-1]))


def open_rows(path: Path, layout: RowsLayout) -> NDArray[Any]:
    """Map a file, checking it first unless its stamp says that this was done; marks it as used now.

    The mapping holds a shared lock on the file until it is let go. It is private: writing to it changes this process's
    copy of a page and never the file, so that a tensor can stand on it.

    Args:
        path: made by `RowsWriter`
        layout: what the file must hold

    Returns:
        array of ``layout.dtype``, shape ``(total_rows, dim)``

    Raises:
        FileNotFoundError: if there is none
        DamagedFileError: if it is cut short, changed, or of something else
    """
    with opened_for_use(path) as file:
        header = read_header(file, magic=_MAGIC)
        if header.get("key") != layout.key:
            raise DamagedFileError("it holds the rows of something else")
        in_bytes = layout.in_bytes
        if not np.array_equal(read_offsets(file, in_bytes), layout.offsets):
            raise DamagedFileError("its items have other lengths")
        check_once(path, file, lambda: checksum(file, in_bytes, layout.offsets), str(header.get("sha256")))
        shape = (int(layout.offsets[-1]), layout.dim)
        if shape[0] == 0:  # nothing cannot be mapped
            return np.zeros(shape, dtype=layout.dtype)
        # numpy's mapping keeps a duplicate of the file's descriptor, and with it the shared lock.
        return np.memmap(file, dtype=layout.dtype, mode="c", offset=in_bytes.rows_at, shape=shape).view(np.ndarray)


class RowsWriter:
    """Writes one file, beginning anew or going on with what a killed process left. The caller holds a lock on it.

    Args:
        path: the name that the file gets when it is whole
        layout: what it will hold
        plan: names the order of the steps that `sync` counts; what was written by another plan is begun anew

    Attributes:
        steps_done: how many steps of the plan are on the disk

    Raises:
        OSError: as opening does
    """

    def __init__(self, path: Path, layout: RowsLayout, *, plan: str) -> None:
        self.path = path
        self.layout = layout
        self.steps_done = 0
        self._partial = path.with_suffix(PARTIAL_SUFFIX)
        self._progress = path.with_suffix(PROGRESS_SUFFIX)
        content = [layout.key, layout.offsets.tolist(), layout.dim, layout.dtype.str, plan]
        self._identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self._file = self._resumed() or self._begun()
        lock_shared(self._file)  # kept through the renaming, so that nobody takes the file before its first user has it

    def write(self, item: int, rows: NDArray[Any]) -> None:
        """Write the rows of one item at their place.

        Args:
            item: its index
            rows: of the layout's type, shape ``(num_rows, dim)``, C-contiguous

        Raises:
            OSError: as writing does
        """
        in_bytes = self.layout.in_bytes
        if rows.size == 0:
            return
        data = np.ascontiguousarray(rows, dtype=self.layout.dtype).data.cast("B")
        position = in_bytes.total_bytes(int(self.layout.offsets[item]))
        while len(data):
            written = os.pwrite(self._file.fileno(), data, position)
            data, position = data[written:], position + written

    def sync(self, steps_done: int) -> None:
        """Bring what was written to the disk, and remember that this many steps of the plan need no repetition.

        Raises:
            OSError: as writing does
        """
        os.fsync(self._file.fileno())
        fresh = self._progress.with_name(self._progress.name + "-new")
        with fresh.open("w") as file:
            json.dump({"identity": self._identity, "steps_done": steps_done}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._progress)
        self.steps_done = steps_done

    def finish(self) -> None:
        """Add header and checksum, and give the file its name.

        Raises:
            OSError: as writing does
        """
        layout, in_bytes = self.layout, self.layout.in_bytes
        header = {
            "num_items": in_bytes.num_items,
            "dim": layout.dim,
            "dtype": layout.dtype.str,
            "sha256": checksum(self._file, in_bytes, layout.offsets),
            "key": layout.key,
        }
        complete(self._file, in_bytes, layout.offsets, magic=_MAGIC, header=header)
        os.fsync(self._file.fileno())
        self._partial.replace(self.path)
        write_stamp(self.path, self._file)  # it was just read and summed
        self._progress.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, whole or not."""
        with suppress(OSError):  # buffered bytes of a full disk
            self._file.close()

    def discard(self) -> None:
        """Remove what was written, unless the file is whole."""
        self.close()
        remove_partial(self._partial)

    def _resumed(self) -> BinaryIO | None:
        try:
            progress = json.loads(self._progress.read_text())
            if progress["identity"] != self._identity or self._partial.stat().st_size != self.layout.total_bytes:
                return None
            steps_done = int(progress["steps_done"])
            file = self._partial.open("r+b")
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        self.steps_done = steps_done
        return file

    def _begun(self) -> BinaryIO:
        remove_partial(self._partial)  # the progress first: it must never speak of the file that is begun now
        file = self._partial.open("w+b")
        try:
            file.truncate(self.layout.total_bytes)
        except OSError:
            file.close()
            remove_partial(self._partial)
            raise
        return file


def remove_partial(partial: Path) -> None:
    """Remove an unfinished file and what is said of its progress; the caller holds the lock of its writer."""
    progress = partial.with_suffix(PROGRESS_SUFFIX)
    for file in (progress, progress.with_name(progress.name + "-new"), partial):
        with suppress(FileNotFoundError):
            file.unlink()


def written_bytes(path: Path) -> int:
    """What the unfinished file of *path* takes on the disk already, in bytes."""
    with suppress(OSError):
        return path.with_suffix(PARTIAL_SUFFIX).stat().st_blocks * 512
    return 0
