"""One cached file of frames: a `ser_data.ragged_file` of float16, written as the clips come."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ser_data import ragged_file
from ser_data.features.clip_frames import ClipFrames, to_float16
from ser_data.node_files import DamagedFileError, check_once, opened_for_use, remove_unless_in_use
from ser_data.node_folder import FRAMES_SUFFIX as SUFFIX
from ser_data.ragged_file import OFFSET_TYPE, Layout, complete, read_header, read_offsets

__all__ = ["SUFFIX", "expected_bytes", "open_frames", "remove_unless_in_use", "write_frames"]

_MAGIC = b"SERFRAME"
_FRAME_TYPE = np.dtype("<f2")


def expected_bytes(*, num_clips: int, num_frames: int, dim: int) -> int:
    """Size of a file with that many clips and frames in all."""
    return _layout(num_clips, dim).total_bytes(num_frames)


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
    layout = _layout(num_clips, dim)
    offsets = np.zeros(num_clips + 1, dtype=OFFSET_TYPE)
    checksum = hashlib.sha256()
    with path.open("wb", buffering=1 << 20) as file:
        file.seek(layout.rows_at)
        for index, clip in enumerate(clips):
            if clip.shape[1] != dim:
                raise ValueError(f"clip {index} has {clip.shape[1]} columns, not {dim}")
            data = to_float16(clip).astype(_FRAME_TYPE, copy=False).tobytes()
            checksum.update(data)
            file.write(data)
            offsets[index + 1] = offsets[index] + len(clip)
        checksum.update(offsets.tobytes())
        header = {"num_clips": num_clips, "dim": dim, "sha256": checksum.hexdigest(), "key": key}
        complete(file, layout, offsets, magic=_MAGIC, header=header)
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
    with opened_for_use(path) as file:
        header = read_header(file, magic=_MAGIC)
        try:
            layout, dim = _layout(int(header["num_clips"]), int(header["dim"])), int(header["dim"])
            found, checksum = header["key"], header["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFileError("its header cannot be read") from error
        if found != key:
            raise DamagedFileError("it holds the features of something else")
        offsets = read_offsets(file, layout)
        check_once(path, file, lambda: _checksum(file, layout, offsets), checksum)
        return ClipFrames(_map(file, layout, int(offsets[-1]), dim), offsets)


def _layout(num_clips: int, dim: int) -> Layout:
    return Layout(num_clips, dim * _FRAME_TYPE.itemsize)


def _checksum(file: BinaryIO, layout: Layout, offsets: NDArray[np.int64]) -> str:
    return ragged_file.checksum(file, layout, offsets)


def _map(file: BinaryIO, layout: Layout, num_frames: int, dim: int) -> NDArray[np.float16]:
    shape = (num_frames, dim)
    if num_frames * dim == 0:  # nothing cannot be mapped
        return np.zeros(shape, dtype=_FRAME_TYPE)
    # numpy's mapping keeps a duplicate of the file's descriptor, and with it the shared lock.
    return np.memmap(file, dtype=_FRAME_TYPE, mode="r", offset=layout.rows_at, shape=shape).view(np.ndarray)
