"""The files that a search's driver and its workers exchange: checkpoints, last words, what a preparation says.

Without ``--storage`` all of them see one folder, and there is nothing to do. With it each node has a folder of its own,
and what another machine may ask for goes through the storage.
"""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ser_data.object_store import ObjectStore, StorageError


def for_any_node(folder: Path) -> str:
    """A folder such as ``--cache-dir`` for any node: below that node's home where it was named so, as the default is.

    >>> for_any_node(Path("~/cache"))
    '~/cache'
    """
    return str(folder) if folder.parts[:1] == ("~",) else str(folder.absolute())


@dataclass(frozen=True)
class NodeFiles:
    """Where workers keep the files of a run that has a storage; as sent to them.

    Attributes:
        store: the whole run's place in the storage
        folder: the whole run's on each node, as :func:`for_any_node` has it
        name: of the part of the run that is meant, with slashes; empty for the whole
    """

    store: ObjectStore
    folder: str
    name: str = ""

    @property
    def here(self) -> Path:
        """Of the part on this machine."""
        return Path(self.folder, self.name).expanduser()

    @property
    def place(self) -> ObjectStore:
        """Of the part in the storage."""
        return self.store.at(self.name) if self.name else self.store


@dataclass(frozen=True)
class SharedFiles:
    """Files below a folder of this machine, by names with slashes, and the place where other machines look for them.

    Attributes:
        folder: of this machine
        store: the place; None where all machines see *folder*
    """

    folder: Path
    store: ObjectStore | None = None

    def names(self, folder: str) -> set[str]:
        """Names of the files in *folder*, as other machines see them.

        Raises:
            StorageError: the storage cannot be asked
        """
        if self.store is not None:
            return set(self.store.names(folder))
        return {f"{folder}/{path.name}" for path in (self.folder / folder).iterdir()}

    def publish(self, name: str) -> None:
        """Let other machines see the file as it is now.

        Raises:
            StorageError: they will not
        """
        if self.store is not None:
            self.store.upload(self.folder / name, name)

    def publish_if_easy(self, name: str) -> None:
        """The same for what may be missed: tried once."""
        if self.store is not None:
            with suppress(StorageError, OSError):
                self.store.hasty.upload(self.folder / name, name)

    def fetch(self, name: str) -> Path:
        """The file as it was last published; where nothing was, it is not there.

        Raises:
            StorageError: the storage cannot be asked
        """
        path = self.folder / name
        if self.store is not None:
            unfinished = path.with_name(f".{path.name}.fetched")
            try:
                self.store.download(name, unfinished)
            except FileNotFoundError:
                unfinished.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            else:
                unfinished.replace(path)
        return path

    def fetch_if_easy(self, name: str) -> Path:
        """The same for what may be missed: tried once, and not there where it failed."""
        if self.store is None:
            return self.folder / name
        try:
            return SharedFiles(self.folder, self.store.hasty).fetch(name)
        except (StorageError, OSError):
            (self.folder / name).unlink(missing_ok=True)
            return self.folder / name

    def remove(self, name: str) -> None:
        """Remove the file, and what was published of it.

        Raises:
            StorageError: it is still published
        """
        (self.folder / name).unlink(missing_ok=True)
        if self.store is not None:
            self.store.remove(name)

    def forget(self, name: str) -> None:
        """Remove this machine's copy of a file that was published."""
        if self.store is not None:
            (self.folder / name).unlink(missing_ok=True)

    def publish_folder(self, name: str) -> None:
        """Move all files below *name* to the storage, in the place of what is there; without one they stay.

        Raises:
            StorageError: they cannot be put there
        """
        if self.store is not None:
            for old in self.store.names(name):
                self.store.remove(old)
            for path in sorted((self.folder / name).rglob("*")):
                if path.is_file():
                    self.publish(path.relative_to(self.folder).as_posix())
            shutil.rmtree(self.folder / name)

    def fetch_folder(self, name: str, target: Path) -> None:
        """Move all published files below *name* to *target*; without a storage they are there.

        Raises:
            StorageError: they cannot be had
        """
        if self.store is not None:
            for found in self.store.names(name):
                self.store.download(found, target / Path(found).relative_to(name))
                self.store.remove(found)


class Pace:
    """Says which checkpoints of a trial are worth the time that publishing one takes.

    The record has the epoch, and a trial that starts again from an older checkpoint comes to the same epochs, so what
    counts is the time that it would take: seldom more than *seconds*, nor more than twenty times a publishing. A
    checkpoint with a new best is always worth it: another machine makes the bundle of it.
    """

    def __init__(self, seconds: float = 10.0, share: float = 0.05) -> None:
        self._seconds = seconds
        self._share = share
        self._not_before = float("-inf")

    def is_due(self) -> bool:
        return time.monotonic() >= self._not_before

    def took(self, seconds: float) -> None:
        """A checkpoint has just been published, in *seconds*."""
        self._not_before = time.monotonic() + max(self._seconds, seconds / self._share)
