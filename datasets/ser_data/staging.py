"""A node's copies of what lies elsewhere: each consignment is fetched once, by one process, and used by all.

Below a folder on the node's own disk, a consignment has a folder of its own once it is whole, and until then a partial
one that the next process goes on with. The copies do not count for ``--cache-gb``: without them there is nothing to
cache. When the disk is short, those that no process uses make room.
"""

import errno
import json
import os
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from filelock import FileLock, Timeout

from ser_data.consignment import Chunk, Consignment, PackedFile, digest_of, has_chunk
from ser_data.errors import UserError
from ser_data.node_files import is_in_use, lock_shared
from ser_data.node_folder import size_text

FOLDER = "staged"  # below --cache-dir
_STAMP_FILE = ".whole.json"  # in a copy that was checked: size and time of each file then; its own time is the last use
_PARTIAL = ".partial"
_LOCK = ".lock"
_TRIES = 3  # of a chunk whose checksum is wrong
_AHEAD = 3  # chunks that are asked for at a time
_FULL = (errno.ENOSPC, errno.EDQUOT)

_in_use: dict[
    Path, BinaryIO
] = {}  # copies that this process uses: it holds a shared lock on their stamps until it ends


class StagingError(UserError):
    """A node cannot get what its trials need."""


class _NoRoomError(StagingError):
    """The node's disk is full."""


class Source(Protocol):
    """Where chunks come from.

    Attributes:
        called: what messages call it
        advice: what to do where it gives something wrong
    """

    @property
    def called(self) -> str: ...

    @property
    def advice(self) -> str: ...

    def read(self, consignment: Consignment, chunk: Chunk) -> bytes | memoryview:
        """The bytes of a chunk; called from several threads.

        Raises:
            OSError: it is not there, or cannot be reached
            UserError: likewise, with what to do
        """
        ...


@dataclass(frozen=True)
class Arrival:
    """What it took to have a consignment on this node.

    Attributes:
        folder: its files
        fetched: bytes that came from elsewhere; 0 if they were there
        seconds: that it took, waiting for another process included
    """

    folder: Path
    fetched: int
    seconds: float


def stage(consignment: Consignment, source: Source, shelf: Path) -> Arrival:
    """Have *consignment* on this node, and use it until this process ends.

    Args:
        consignment: what is wanted
        source: whom to ask for what is missing
        shelf: the node's folder of such copies, made if missing; all processes of the node name the same

    Raises:
        StagingError: there is no room for it, it cannot be fetched, or what comes is damaged, also when it is asked for
            again
    """
    began = time.monotonic()
    home = shelf / consignment.folder_name
    with _explained(consignment, source, shelf):
        shelf.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf / f"{home.name}{_LOCK}"):
            fetched = 0
            if not _is_whole(home, consignment):
                if home.exists():
                    print(f"{home} was changed: it is fetched again", file=sys.stderr)
                    shutil.rmtree(home)
                fetched = _fetch(consignment, source, home)
            _use(home)
    return Arrival(home, fetched, time.monotonic() - began)


@contextmanager
def _explained(consignment: Consignment, source: Source, shelf: Path) -> Iterator[None]:
    """Name node, files and fix in what goes wrong."""
    node = socket.gethostname()
    try:
        yield
    except _NoRoomError:
        raise
    except UserError as error:
        raise StagingError(f"node {node} cannot get {consignment.name} from {source.called}: {error}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(consignment, shelf, consignment.size) from error
        named = [error.filename, error.filename2]
        if any(name is not None and str(name).startswith(str(shelf)) for name in named):
            raise StagingError(
                f"node {node} cannot write its copy of {consignment.name} ({error.strerror}: {error.filename}). Name a "
                "folder that can be written on every node with --cache-dir."
            ) from error
        raise StagingError(
            f"node {node} cannot get {consignment.name} from {source.called} ({error}). {source.advice}"
        ) from error


def _full(consignment: Consignment, shelf: Path, needed: int) -> "_NoRoomError":
    return _NoRoomError(
        f"the disk of node {socket.gethostname()} has no room for {consignment.name}: {size_text(needed)} are needed "
        f"in {shelf}, {size_text(shutil.disk_usage(shelf).free)} are free. Free some space there, or name another "
        "folder with --cache-dir."
    )


def _is_whole(home: Path, consignment: Consignment) -> bool:
    """Whether a copy is there and is as it was when it was checked."""
    try:
        stamp = json.loads((home / _STAMP_FILE).read_text())
        return bool(stamp == _identity(home, consignment))
    except (OSError, ValueError):
        return False


def _identity(home: Path, consignment: Consignment) -> dict[str, list[int]]:
    found = {file.name: (home / file.name).stat() for file in consignment.files}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def _fetch(consignment: Consignment, source: Source, home: Path) -> int:
    """Bring what is missing into the partial folder, and give that its name; the bytes that came."""
    partial = home.with_name(home.name + _PARTIAL)
    partial.mkdir(exist_ok=True)
    missing = {file: _first_missing(partial, consignment, file) for file in consignment.files}
    needed = sum(
        file.size - first * consignment.chunk_bytes for file, first in missing.items() if first < len(file.chunks)
    )
    if needed > shutil.disk_usage(partial).free:
        _make_room(home.parent, needed, but=home.name)
        if needed > shutil.disk_usage(partial).free:
            raise _full(consignment, home.parent, needed)
    for file, first in missing.items():
        path = partial / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "wb") as target:
            target.truncate(first * consignment.chunk_bytes if first < len(file.chunks) else file.size)
            target.seek(0, os.SEEK_END)
            for data in _read_ahead(consignment, source, file, first):
                target.write(data)
            target.flush()
            os.fsync(target.fileno())  # before it has its name: a power cut must not leave a whole-looking file
    (partial / _STAMP_FILE).write_text(json.dumps(_identity(partial, consignment)))
    partial.rename(home)
    return needed


def _first_missing(partial: Path, consignment: Consignment, file: PackedFile) -> int:
    """Number of the first chunk that is not there, or is not what it should be."""
    for chunk in consignment.chunks(file):
        if not has_chunk(partial, chunk):
            return chunk.index
    return len(file.chunks)


def _read_ahead(consignment: Consignment, source: Source, file: PackedFile, first: int) -> Iterator[bytes | memoryview]:
    """The chunks of *file* from *first* on, each checked, while the next ones are on their way."""
    pending: deque[Future[bytes | memoryview]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="staging")
    try:
        for chunk in consignment.chunks(file, first):
            pending.append(pool.submit(_checked, consignment, source, chunk))
            if len(pending) >= _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _checked(consignment: Consignment, source: Source, chunk: Chunk) -> bytes | memoryview:
    for _ in range(_TRIES):
        data = source.read(consignment, chunk)
        if len(data) == chunk.size and digest_of(data) == chunk.sha256:
            return data
    raise StagingError(
        f"the bytes of {chunk.file} from {chunk.start:,} on came {_TRIES} times with a wrong checksum. {source.advice}"
    )


def _use(home: Path) -> None:
    """Mark a copy as used now, and until this process ends; the caller holds its lock."""
    stamp = home / _STAMP_FILE
    with suppress(OSError):
        os.utime(stamp)
    held = _in_use.get(home)
    if held is None or os.fstat(held.fileno()).st_ino != stamp.stat().st_ino:
        _in_use[home] = stamp.open("rb")
        lock_shared(_in_use[home])


def _make_room(shelf: Path, needed: int, *, but: str) -> None:
    """Remove what interrupted processes left, then copies that nobody uses, the longest unused first."""
    found = [path for path in shelf.iterdir() if path.is_dir() and path.name.removesuffix(_PARTIAL) != but]
    for path in sorted(found, key=lambda path: (not path.name.endswith(_PARTIAL), _last_used(path))):
        if needed <= shutil.disk_usage(shelf).free:
            return
        with suppress(Timeout, OSError), FileLock(shelf / f"{path.name.removesuffix(_PARTIAL)}{_LOCK}", timeout=0):
            if path.name.endswith(_PARTIAL) or not _is_used(path):
                shutil.rmtree(path)


def _last_used(copy: Path) -> float:
    with suppress(OSError):
        return (copy / _STAMP_FILE).stat().st_mtime
    return 0.0


def _is_used(copy: Path) -> bool:
    """Whether a process uses a copy; one without its stamp is used by nobody, for it is not whole."""
    with suppress(FileNotFoundError), (copy / _STAMP_FILE).open("rb") as stamp:
        return is_in_use(stamp)
    return False
