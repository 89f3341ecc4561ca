"""One cached file of frames: a header that says what it is, the clips' offsets, the frames, and a checksum of both.

Layout: magic, eight bytes with the length of the header, the header (JSON), the offsets (int64), zeros to the next
page, the frames (float16). Everything is little-endian. The header is written last: a file without one is not finished.

Which checks a file has passed is remembered in a small stamp beside it: the whole file is read and summed when it is
first opened on a node, and again whenever its size, time or place on disk differ from the stamp's. The stamp's own time
is the time of the last use.
"""

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ser_data.features.clip_frames import ClipFrames, to_float16

SUFFIX = ".frames"
STAMP_SUFFIX = ".checked"

_MAGIC = b"SERFRAME"
_PREFIX = struct.Struct("<8sQ")
_HEADER_ROOM = 4_096
_PAGE = 4_096
_OFFSET_TYPE = np.dtype("<i8")
_FRAME_TYPE = np.dtype("<f2")
_READ_BYTES = 1 << 22


class DamagedFileError(Exception):
    """A cached file that is not what was once written; the message says in what."""


@dataclass(frozen=True)
class _Layout:
    num_clips: int
    dim: int

    @property
    def frames_at(self) -> int:
        end = _HEADER_ROOM + (self.num_clips + 1) * _OFFSET_TYPE.itemsize
        return -(-end // _PAGE) * _PAGE


def expected_bytes(*, num_clips: int, num_frames: int, dim: int) -> int:
    """Size of a file with that many clips and frames in all."""
    return _Layout(num_clips, dim).frames_at + num_frames * dim * _FRAME_TYPE.itemsize


def write_frames(
    path: Path, clips: Iterable[NDArray[np.float32]], *, num_clips: int, dim: int, key: dict[str, Any]
) -> None:
    """Write the frames of all clips as they come, then what they are; the file is synced, and gets no stamp.

    Args:
        path: a temporary name; the caller renames it
        clips: float32, shape ``(num_frames, dim)`` each; kept in memory one at a time
        num_clips: how many will come
        dim: columns
        key: what the frames are, compared when the file is opened; JSON values

    Raises:
        OSError: as writing does
    """
    layout = _Layout(num_clips, dim)
    offsets = np.zeros(num_clips + 1, dtype=_OFFSET_TYPE)
    checksum = hashlib.sha256()
    with path.open("wb", buffering=1 << 20) as file:
        file.seek(layout.frames_at)
        for index, clip in enumerate(clips):
            if clip.shape[1] != dim:
                raise ValueError(f"clip {index} has {clip.shape[1]} columns, not {dim}")
            data = to_float16(clip).astype(_FRAME_TYPE, copy=False).tobytes()
            checksum.update(data)
            file.write(data)
            offsets[index + 1] = offsets[index] + len(clip)
        checksum.update(offsets.tobytes())
        header = {"num_clips": num_clips, "dim": dim, "sha256": checksum.hexdigest(), "key": key}
        text = json.dumps(header).encode()
        if _PREFIX.size + len(text) > _HEADER_ROOM:
            raise ValueError(f"the header has {len(text)} bytes")
        file.seek(_HEADER_ROOM)
        file.write(offsets.tobytes())
        file.flush()
        file.truncate(expected_bytes(num_clips=num_clips, num_frames=int(offsets[-1]), dim=dim))
        file.seek(0)
        file.write(_PREFIX.pack(_MAGIC, len(text)) + text)
        file.flush()
        os.fsync(file.fileno())


def open_frames(path: Path, *, key: dict[str, Any]) -> ClipFrames:
    """Map a file, checking it first unless its stamp says that this was done; marks it as used now.

    The mapping holds a shared lock on the file until it is let go, so that `remove_unless_in_use` in another process
    knows of it.

    Args:
        path: written by `write_frames`
        key: what the frames must be

    Raises:
        FileNotFoundError: if there is none
        DamagedFileError: if it is cut short, changed, or of something else
    """
    with path.open("rb") as file:
        _lock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink == 0:  # removed between our opening and our lock
            raise FileNotFoundError(path)
        header, layout = _read_header(file, key)
        file.seek(_HEADER_ROOM)
        offsets = np.frombuffer(file.read((layout.num_clips + 1) * _OFFSET_TYPE.itemsize), dtype=_OFFSET_TYPE)
        size = os.fstat(file.fileno()).st_size
        if len(offsets) != layout.num_clips + 1 or size != expected_bytes(
            num_clips=layout.num_clips, num_frames=int(offsets[-1]), dim=layout.dim
        ):
            raise DamagedFileError(f"it has {size} bytes, which is not what was written")
        stamp = _identity(file)
        if _read_stamp(path) != stamp:
            if _checksum(file, layout, offsets) != header["sha256"]:
                raise DamagedFileError("its checksum differs")
            _write_stamp(path, stamp)
        with suppress(OSError):  # a read-only cache is as good, it only forgets what was used last
            os.utime(path.with_suffix(STAMP_SUFFIX))
        frames = _map(file, layout, int(offsets[-1]))
    return ClipFrames(frames, offsets.astype(np.int64))


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


def _read_header(file: BinaryIO, key: dict[str, Any]) -> tuple[dict[str, Any], _Layout]:
    start = file.read(_HEADER_ROOM)
    try:
        magic, length = _PREFIX.unpack_from(start)
        if magic != _MAGIC:
            raise DamagedFileError("it does not begin as such a file does")
        header = json.loads(start[_PREFIX.size : _PREFIX.size + length])
        layout = _Layout(int(header["num_clips"]), int(header["dim"]))
        found = header["key"]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError("its header cannot be read") from error
    if found != key:
        raise DamagedFileError("it holds the features of something else")
    return header, layout


def _checksum(file: BinaryIO, layout: _Layout, offsets: NDArray[np.int64]) -> str:
    checksum = hashlib.sha256()
    file.seek(layout.frames_at)
    while data := file.read(_READ_BYTES):
        checksum.update(data)
    checksum.update(offsets.tobytes())
    return checksum.hexdigest()


def _map(file: BinaryIO, layout: _Layout, num_frames: int) -> NDArray[np.float16]:
    shape = (num_frames, layout.dim)
    if num_frames * layout.dim == 0:  # nothing cannot be mapped
        return np.zeros(shape, dtype=_FRAME_TYPE)
    # numpy's mapping keeps a duplicate of the file's descriptor, and with it the shared lock.
    return np.memmap(file, dtype=_FRAME_TYPE, mode="r", offset=layout.frames_at, shape=shape).view(np.ndarray)


def _identity(file: BinaryIO) -> str:
    status = os.fstat(file.fileno())
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _read_stamp(path: Path) -> str:
    try:
        return path.with_suffix(STAMP_SUFFIX).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _write_stamp(path: Path, stamp: str) -> None:
    with suppress(OSError):  # without one the next opening checks again
        path.with_suffix(STAMP_SUFFIX).write_text(stamp)
