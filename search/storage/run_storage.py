"""``--storage``: a search that lies in a storage too, so that its nodes share no folder and its driver can be lost.

A driver works in its own folder as ever. What it writes is put into the storage behind it
(:mod:`search.storage.uploader`): the records as segments (:mod:`search.storage.segments`), all else that makes a run
as it is (:mod:`search.storage.mirror`). How a sitting begins with one is in :mod:`search.storage.opening`.
"""

import hashlib
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from search.record import Record
from search.storage.mirror import Mirror
from search.storage.segments import SegmentWriter
from search.storage.shared_files import NodeFiles, for_any_node
from search.storage.uploader import Uploader
from ser_data.object_store import ObjectStore


class RunStorage:
    """A search's place in a storage, for a sitting.

    Attributes:
        store: the objects of this search
        folder: the driver's own, absolute
        uploader: what puts things there
    """

    def __init__(self, store: ObjectStore, folder: Path, mirror: Mirror, uploader: Uploader, term: int) -> None:
        self.store = store
        self.folder = folder.resolve()
        self._as_given = folder
        self.uploader = uploader
        self._mirror = mirror
        self._term = term
        self._copied: set[str] = set()
        self._removed: set[str] = set()

    def name_of(self, path: Path) -> str:
        """What a file or folder of the run is called there; empty for the run itself."""
        try:
            name = path.relative_to(self._as_given).as_posix()
        except ValueError:
            name = path.resolve().relative_to(self.folder).as_posix()
        return "" if name == "." else name

    def address_of(self, folder: Path) -> str:
        """Where the run, or the part of it in *folder*, lies."""
        name = self.name_of(folder)
        return self.store.at(name).uri if name else self.store.uri

    def copy_of(self, path: Path) -> "_Copy":
        """What keeps the record at *path* there too."""
        name = self.name_of(path.parent)
        if name not in self._copied:  # begun by this sitting
            self.go_on_with(name, stored=0, ahead=[])
        return _Copy(self.uploader, name)

    def go_on_with(self, name: str, *, stored: int, ahead: list[bytes]) -> None:
        """Take up the record *name* behind the events that are *stored*, beginning with those of here that are not."""
        self._copied.add(name)
        place = self.store.at(name) if name else self.store
        self.uploader.open_record(name, SegmentWriter(place.hasty, term=self._term, stored=stored))
        for line in ahead:
            self.uploader.add(name, line, "")

    def node_files(self, folder: Path, cache_dir: Path) -> NodeFiles:
        """Where workers keep the files of the run, or of the part of it in *folder*: below their *cache_dir*."""
        called = hashlib.sha256(self.store.uri.encode()).hexdigest()[:12]
        store = ObjectStore(self.store.uri, patience=self.uploader.patience)
        return NodeFiles(store, for_any_node(cache_dir / "runs" / called), self.name_of(folder))

    def introduce(self, console: Console) -> None:
        """Say where the run lies, and how another machine goes on with it."""
        told = f"kept in {self.store.path_of('')} too; from any machine:\n"
        again = f"  python search/run.py --resume {shlex.quote(self.store.uri)}"
        console.print(told + again, soft_wrap=True, markup=False, highlight=False)

    def put(self, *, records: bool = False) -> None:
        """Put the run's files there as they are now; as :meth:`search.storage.mirror.Mirror.put`."""
        self.uploader.behind(partial(self._mirror.put, records=records))
        self.uploader.wait(jobs=True)

    def remove(self, path: Path) -> None:
        """Remove a file of the run there, when all that was written before is there."""
        name = self.name_of(path)
        if name not in self._removed:
            self._removed.add(name)
            self.uploader.aside(partial(self.store.hasty.remove, name))


@dataclass(frozen=True)
class _Copy:
    uploader: Uploader
    name: str

    def add(self, line: bytes, kind: str) -> None:
        self.uploader.add(self.name, line, kind)


def open_record(path: Path, storage: RunStorage | None, lock: FileLock | None = None) -> Record:
    """As :class:`search.record.Record`, kept in *storage* too where there is one."""
    return Record(path, lock, storage.copy_of(path) if storage is not None else None)
