"""Which files of a search's folder lie in its storage too, under the same names, so that a copy of it is a whole run.

Not the records, which are there as segments; nor what workers exchange with the driver (checkpoints, last words), which
:mod:`search.storage.shared_files` puts there; nor what is of one machine alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from search.run_folder import BEST_FOLDER, RECORD_FILE
from search.storage import segments
from search.storage.lease import LEASE_FILE
from ser_data.object_store import ObjectStore

#: Folders anywhere in a run: trials' own files, what W&B's client keeps, and the segments of records.
_OTHERS = {"trials", "wandb", "export", segments.FOLDER, segments.SET_ASIDE}


def is_mirrored(name: str) -> bool:
    """Whether the file *name* of a run, with slashes, is one of those.

    >>> is_mirrored("finalists/round-1/tfds/judged.json"), is_mirrored("mfcc_full/trials/t0001/checkpoint.pt")
    (True, False)
    """
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not (hidden or _OTHERS & set(path.parts) or path.suffix == ".lock" or path.name == LEASE_FILE)


class Mirror:
    """Keeps a storage's copy of a search's folder up to date. Not for two threads at once.

    Attributes:
        between: called before each file that is put there, which may take long
    """

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self._folder = folder
        self._store = store
        self._put: dict[str, tuple[int, int]] = {}
        self.between: Callable[[], None] = lambda: None

    def put(self, *, records: bool = False) -> None:
        """Put there what has changed since the last time; without patience.

        Args:
            records: put the records' own files too, for those who copy the run to look at it; nobody goes on with them

        Raises:
            StorageError: something cannot be put there
        """
        there = dict(self._files(records))
        store = self._store.hasty
        for name, state in there.items():
            if self._put.get(name) != state:
                self.between()
                with suppress(FileNotFoundError):  # replaced at this moment, and put the next time
                    store.upload(self._folder / name, name)
                    self._put[name] = state
        best = {name for name in self._put if BEST_FOLDER in PurePosixPath(name).parts}
        for name in best - there.keys():  # of a winner that another took the place of
            store.remove(name)
            del self._put[name]

    def fetch(self) -> None:
        """Replace the folder's files by those that are there.

        Raises:
            OSError: a file cannot be written
            StorageError: an object cannot be read
        """
        for name in filter(is_mirrored, self._store.names()):
            if PurePosixPath(name).name == RECORD_FILE:
                continue
            target = self._folder / name
            unfinished = target.with_name(f".{target.name}.tmp")
            self._store.download(name, unfinished)
            unfinished.replace(target)
        self._put = dict(self._files(records=False))

    def _files(self, records: bool) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, and what tells a changed file, of each."""
        for parent, folders, files in os.walk(self._folder):
            place = PurePosixPath(Path(parent).relative_to(self._folder).as_posix())
            folders[:] = sorted(name for name in folders if is_mirrored(name))  # others are not even looked into
            for file in sorted(files):
                if is_mirrored(file) and (records or file != RECORD_FILE):
                    with suppress(FileNotFoundError):
                        found = Path(parent, file).stat()
                        yield (place / file).as_posix(), (found.st_mtime_ns, found.st_size)
