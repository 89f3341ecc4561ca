"""A file of one ragged array: a header that says what it is, the items' offsets, their rows, and a checksum of both.

Layout: magic, eight bytes with the length of the header, the header (JSON), the offsets (int64), zeros to the next
page, the rows. Everything is little-endian. The header is written last: a file without one is not finished.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ser_data.node_files import DamagedFileError

OFFSET_TYPE = np.dtype("<i8")

_PREFIX = struct.Struct("<8sQ")
_HEADER_ROOM = 4_096
_PAGE = 4_096
_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class Layout:
    """Where the parts of a file lie, in bytes."""

    num_items: int
    row_bytes: int

    @property
    def rows_at(self) -> int:
        """Where the first row begins: at a page, so that it can be mapped."""
        end = _HEADER_ROOM + (self.num_items + 1) * OFFSET_TYPE.itemsize
        return -(-end // _PAGE) * _PAGE

    def total_bytes(self, num_rows: int) -> int:
        """Size of a file with that many rows in all."""
        return self.rows_at + num_rows * self.row_bytes


def complete(
    file: BinaryIO, layout: Layout, offsets: NDArray[np.int64], *, magic: bytes, header: dict[str, Any]
) -> None:
    """Write the offsets and, last, the header of a file whose rows are written; the caller syncs it.

    Args:
        file: open for writing
        layout: of the file
        offsets: int64, shape ``(num_items + 1,)``
        magic: eight bytes that say which kind of file it is
        header: JSON values; less than four kilobytes

    Raises:
        OSError: as writing does
        ValueError: if the header is too long
    """
    text = json.dumps(header).encode()
    if _PREFIX.size + len(text) > _HEADER_ROOM:
        raise ValueError(f"the header has {len(text)} bytes")
    file.seek(_HEADER_ROOM)
    file.write(offsets.astype(OFFSET_TYPE, copy=False).tobytes())
    file.flush()
    file.truncate(layout.total_bytes(int(offsets[-1])))
    file.seek(0)
    file.write(_PREFIX.pack(magic, len(text)) + text)
    file.flush()


def read_header(file: BinaryIO, *, magic: bytes) -> dict[str, Any]:
    """The header of a file.

    Raises:
        DamagedFileError: if there is none that can be read, or it is one of another kind of file
    """
    file.seek(0)
    start = file.read(_HEADER_ROOM)
    try:
        found, length = _PREFIX.unpack_from(start)
        if found != magic:
            raise DamagedFileError("it does not begin as such a file does")
        header = json.loads(start[_PREFIX.size : _PREFIX.size + length])
    except (struct.error, ValueError) as error:
        raise DamagedFileError("its header cannot be read") from error
    if not isinstance(header, dict):
        raise DamagedFileError("its header cannot be read")
    return header


def read_offsets(file: BinaryIO, layout: Layout) -> NDArray[np.int64]:
    """The offsets of a file: int64, shape ``(num_items + 1,)``.

    Raises:
        DamagedFileError: if the file does not have the size that they say
    """
    file.seek(_HEADER_ROOM)
    data = file.read((layout.num_items + 1) * OFFSET_TYPE.itemsize)
    size = os.fstat(file.fileno()).st_size
    offsets = np.frombuffer(data[: len(data) // OFFSET_TYPE.itemsize * OFFSET_TYPE.itemsize], dtype=OFFSET_TYPE)
    if len(offsets) != layout.num_items + 1 or size != layout.total_bytes(int(offsets[-1])):
        raise DamagedFileError(f"it has {size} bytes, which is not what was written")
    return offsets.astype(np.int64)


def checksum(file: BinaryIO, layout: Layout, offsets: NDArray[np.int64]) -> str:
    """SHA-256 of the rows, read from the file, and of the offsets; hexadecimal."""
    digest = hashlib.sha256()
    file.seek(layout.rows_at)
    while data := file.read(_READ_BYTES):
        digest.update(data)
    digest.update(offsets.astype(OFFSET_TYPE, copy=False).tobytes())
    return digest.hexdigest()
