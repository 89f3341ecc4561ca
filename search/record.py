"""The one record of a search: ``events.jsonl``, append-only, a checksum per line, written by the driver alone.

Everything else (Optuna's study, the rungs, the board, W&B) is a view of it and can be rebuilt from it. An event is on
disk before anybody acts on it, so a search killed at any moment is what its record says, less at most a torn last line.

A line is ``<crc32 of the JSON, 8 hex digits> <JSON object>\\n``.
"""

import json
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from filelock import FileLock, Timeout

from ser_data.errors import UserError

FORMAT_VERSION = 1
Event = dict[str, Any]


class RecordCopy(Protocol):
    """Where a record is kept too, so that it outlives this machine; see :mod:`search.storage.segments`."""

    def add(self, line: bytes, kind: str) -> None:
        """Take in a line that is on disk here, of an event of *kind*; return when it is as safe as such an event is."""


class Record:
    """Append and replay events. Use as a context manager; only one process may hold a record at a time.

    Attributes:
        events: every event on disk, oldest first
        lost_bytes: length of the torn tail that was cut when the record was opened, 0 if there was none
    """

    def __init__(self, path: Path, lock: FileLock | None = None, copy: RecordCopy | None = None) -> None:
        """Open *path*, cutting a torn tail.

        Args:
            path: the record's
            lock: from :func:`lock_record`, where it was taken before; released with the record
            copy: gets every line that is appended; it has those that are there

        Raises:
            UserError: if another process writes to it, a line before the last is damaged, or the format is unknown
        """
        self.path = path
        self._copy = copy
        self._lock = lock or lock_record(path)
        try:
            self.events, good_bytes, total_bytes = _read(path)
            self.lost_bytes = total_bytes - good_bytes
            self._file = path.open("ab", buffering=0)  # what a full disk refuses must not be written by a later flush
            if self.lost_bytes:
                self._file.truncate(good_bytes)
            if not self.events:
                self.append({"kind": "format", "version": FORMAT_VERSION})
        except BaseException:
            self._lock.release()
            raise

    def append(self, event: Event) -> None:
        """Write *event* and wait until it is on disk.

        Raises:
            UserError: if the disk is full; nothing half-written stays behind. Or if its copy cannot be kept; then it is
                on disk here
        """
        text = json.dumps(event, separators=(",", ":"), allow_nan=False)
        line = f"{zlib.crc32(text.encode()):08x} {text}\n".encode()
        descriptor = self._file.fileno()
        start = os.fstat(descriptor).st_size
        try:
            rest = line
            while rest:  # a nearly full disk takes a part
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, start)
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}). The search needs room for its record there: free "
                f"some disk space, then go on with --resume {self.path.parent}"
            ) from error
        self.events.append(event)
        if self._copy is not None:
            self._copy.add(line, event["kind"])

    def close(self) -> None:
        self._file.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock_record(path: Path) -> FileLock:
    """The right to write the record at *path*, and all else in its folder.

    Raises:
        UserError: another process has it
    """
    lock = FileLock(lock_file(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{path.parent} is being written by another search that still runs. One search writes to a folder at a "
            "time: wait for it, stop it, or choose another folder with --out."
        ) from None
    return lock


def lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def read_events(path: Path) -> list[Event]:
    """Events of a record that may still be written to by another process; a torn tail is passed over.

    Raises:
        UserError: if a line before the last is damaged, or the format is unknown
    """
    return _read(path)[0]


def whole_lines(data: bytes) -> list[bytes]:
    """The lines of a record at the start of *data*, up to the first that is torn or damaged."""
    whole = []
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n") or _parse(line[:-1]) is None:
            break
        whole.append(line)
    return whole


def _read(path: Path) -> tuple[list[Event], int, int]:
    """Events, bytes that hold them, bytes in all."""
    data = path.read_bytes() if path.exists() else b""
    events: list[Event] = []
    good = 0
    while good < len(data):
        end = data.find(b"\n", good)
        event = _parse(data[good:end]) if end >= 0 else None
        if event is None:
            if _parses_somewhere(data[good:]):
                raise UserError(
                    f"{path} is damaged at byte {good}, with good events behind it: that is not a torn write but a "
                    "changed file. Restore it from a copy, or start a new search with another --out."
                )
            break
        events.append(event)
        good = end + 1
    if events and events[0] != {"kind": "format", "version": FORMAT_VERSION}:
        raise UserError(
            f"{path} was written in format {events[0].get('version')!r}; this version reads format {FORMAT_VERSION}. "
            "Resume it with the version that wrote it (its config.json names the commit), or start a new search."
        )
    return events, good, len(data)


def _parse(line: bytes) -> Event | None:
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _parses_somewhere(tail: bytes) -> bool:
    """Whether a whole event follows the first, damaged line of *tail*."""
    return any(_parse(line) is not None for line in tail.split(b"\n")[1:])
