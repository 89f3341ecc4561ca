"""A record in a storage, which cannot append: numbered segments, ``events/00000057-t0003.jsonl``.

A segment holds some lines of the record (:mod:`search.record`) and is named by the number of its first event, from 1,
and by the term of the driver that wrote it, which grows with every driver. So nothing depends on what else is there:

* a driver that was thought dead and still writes changes nothing: the segments of a later term take the place of all
  that an earlier one has from there on;
* many small segments are merged into one under the name of the first, and the others removed. A reader that finds both,
  as after a crash in between, sees the same lines twice and takes them once;
* a segment that is missing, or damaged, ends the record as a torn tail does, and is said.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from search.record import whole_lines
from ser_data.object_store import ObjectStore

FOLDER = "events"
SET_ASIDE = "events-set-aside"
_NAME = re.compile(r"(\d{8,})-t(\d{4,})\.jsonl")
_MERGED = 64  # small segments that become one
_LARGE_BYTES = 4 * 2**20  # of a segment that is not written again with others
_READERS = 16  # requests at a time


@dataclass(frozen=True)
class StoredRecord:
    """What a storage holds of a record.

    Attributes:
        lines: whole ones, with their line ends, from the first event on
        term: the highest of a driver that wrote there, 0 where none did
        trouble: what is lost of it, for a reader; empty where nothing is
        beyond: names of the segments behind what is lost, which are of no use
    """

    lines: list[bytes]
    term: int = 0
    trouble: str = ""
    beyond: tuple[str, ...] = ()


def segment_name(first: int, term: int) -> str:
    """
    >>> segment_name(57, 3)
    'events/00000057-t0003.jsonl'
    """
    return f"{FOLDER}/{first:08d}-t{term:04d}.jsonl"


def read_record(store: ObjectStore) -> StoredRecord:
    """The record whose segments lie below *store*.

    Raises:
        StorageError: they cannot be read
    """
    found = []
    for name in store.names(FOLDER):
        if match := _NAME.fullmatch(name.removeprefix(f"{FOLDER}/")):
            found.append((int(match[2]), int(match[1]), name))
    found.sort()
    with ThreadPoolExecutor(_READERS) as readers:
        contents = list(readers.map(lambda each: store.read(each[2]), found))
    lines: list[bytes] = []
    told: list[str] = []
    beyond: list[str] = []
    latest = 0
    for (term, first, name), content in zip(found, contents, strict=True):
        before = first - 1
        if before > len(lines):
            told = told or [f"segment {segment_name(len(lines) + 1, term)} is missing"]
            beyond.append(name)
            continue
        own = whole_lines(content)
        if term > latest:
            lines, latest = lines[:before], term
        if before + len(own) > len(lines):
            lines = lines[:before] + own
        if len(b"".join(own)) < len(content):
            told.append(f"segment {name} is damaged behind its first {len(own)} events")
    trouble = f"{store.path_of('')}: {'; '.join(told)}" if told else ""
    return StoredRecord(lines, max((term for term, _, _ in found), default=0), trouble, tuple(beyond))


def set_aside(store: ObjectStore, names: Iterable[str]) -> None:
    """Move segments that are of no use to where no reader looks.

    Raises:
        StorageError: they cannot be moved
    """
    for name in names:
        store.write(name.replace(FOLDER, SET_ASIDE, 1), store.read(name))
        store.remove(name)


class SegmentWriter:
    """Writes the segments of one record, in order. Not for two threads at once."""

    def __init__(self, store: ObjectStore, *, term: int, stored: int) -> None:
        """Go on behind *stored* events.

        Args:
            store: the place of the record
            term: of this driver, higher than of any before
            stored: events that are there
        """
        self._store = store
        self._term = term
        self._next = stored + 1
        self._small: list[tuple[int, bytes]] = []

    def write(self, lines: Sequence[bytes]) -> None:
        """Put *lines* there as one segment.

        Raises:
            StorageError: they cannot be put there; nothing has changed
        """
        content = b"".join(lines)
        self._store.write(segment_name(self._next, self._term), content)
        self._small.append((self._next, content))
        self._next += len(lines)
        if len(content) > _LARGE_BYTES:
            self._small.clear()

    def merge(self) -> list[Callable[[], None]]:
        """Merge small segments, where there are many.

        Returns:
            what removes those that are no longer needed, each a request of its own

        Raises:
            StorageError: they could not be merged; nothing has changed
        """
        if len(self._small) < _MERGED:
            return []
        first = segment_name(self._small[0][0], self._term)
        self._store.write(first, b"".join(content for _, content in self._small))
        merged, self._small = self._small[1:], []
        return [partial(self._store.remove, segment_name(number, self._term)) for number, _ in merged]
