"""The beginning and the end of a sitting with a storage: whose it is, which search, and who is ahead.

Folder and storage are compared record by record. Whoever has more of the same events is ahead, and the other one gets
them. Where another machine went on before events of this folder were there, the two are apart: the storage is right,
and the folder's events are kept aside.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from search import run_folder
from search.arguments import Arguments
from search.record import whole_lines
from search.space import members_of
from search.storage.lease import Lease, take_lease
from search.storage.mirror import Mirror
from search.storage.run_storage import RunStorage
from search.storage.segments import FOLDER, StoredRecord, read_record, set_aside
from search.storage.uploader import Uploader, given_up
from ser_data.errors import UserError
from ser_data.object_store import OPTION, ObjectStore, StorageError, open_store

PATIENCE_SECONDS = 600.0  # in mid-search
APART_FILE = "events-set-aside.jsonl"  # what of a record never reached the storage before another machine went on


@contextmanager
def opened_storage(arguments: Arguments, say: Callable[[str], None]) -> Iterator[tuple[Arguments, RunStorage | None]]:
    """The storage that a sitting uses, as long as the context lasts, and the arguments with the folder it works in.

    Args:
        arguments: as given
        say: is told what a user has to know of it, a line at a time

    Raises:
        UserError: it cannot be used, holds another search, or another driver uses it
    """
    arguments, store = _find(arguments)
    if store is None:
        yield arguments, None
        return
    folder = arguments.resume or arguments.out
    assert folder is not None
    with ExitStack() as stack:
        leases = []
        for name in ("", *_members(arguments, store)):
            leases.append(take_lease(store.at(name) if name else store, say))
            stack.callback(_release, leases[-1])
        storage = _compared(store, folder, leases, say)
        storage.uploader.start()
        stack.callback(storage.uploader.close)
        try:
            yield arguments, storage
            storage.put(records=True)
        except StorageError as error:
            raise given_up(error, folder) from error


def _release(lease: Lease) -> None:
    with suppress(StorageError):
        lease.release()


def _find(arguments: Arguments) -> tuple[Arguments, ObjectStore | None]:
    """The place of the search that *arguments* mean, None without a storage; and them with the folder to work in."""
    if arguments.resume_from is not None:
        return _from_afar(arguments, arguments.resume_from)
    folder = arguments.resume or arguments.out
    known = None
    if folder is not None and (folder / run_folder.CONFIG_FILE).is_file():
        known = run_folder.load(folder).get(run_folder.STORAGE)
        if known == folder.resolve().as_uri():  # not a driver's folder, but the place itself
            return _from_afar(replace(arguments, resume=None), known)
    if arguments.storage is None:
        return arguments, None if known is None else open_store(known)
    folder = folder or run_folder.default_folder(arguments.space.replace(",", "-"))
    store = open_store(arguments.storage).at(folder.resolve().name)
    if store.uri == folder.resolve().as_uri():
        raise UserError(
            f"{OPTION} {arguments.storage}: that is where --out {folder} lies. The driver works in a folder of its own "
            "machine: leave --out away, or name one there."
        )
    if (folder / run_folder.CONFIG_FILE).is_file() and known != store.uri:
        began = f"with --storage at {known}" if known else "without --storage"
        raise UserError(
            f"{OPTION} {arguments.storage}: the search in {folder} began {began}, and stays there. Go on with it by "
            f"--resume {folder}, or choose another --out."
        )
    if known is None and store.size(run_folder.CONFIG_FILE) is not None:
        raise UserError(
            f"{OPTION} {arguments.storage}: {store.path_of('')} holds a search already. Go on with it by --resume "
            f"{shlex.quote(store.uri)}, or choose an --out of another name."
        )
    return replace(arguments, out=folder), store


def _from_afar(arguments: Arguments, uri: str) -> tuple[Arguments, ObjectStore]:
    store = open_store(uri)
    try:
        config = json.loads(store.read(run_folder.CONFIG_FILE))
        search_id = config["search_id"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--resume {uri} holds no search: it has no {run_folder.CONFIG_FILE} that can be read. Name the address "
            "that the search printed, s3://BUCKET/PATH/NAME of its results folder."
        ) from None
    folder = arguments.out or Path("runs") / PurePosixPath(urlsplit(store.uri).path).name
    if (folder / run_folder.CONFIG_FILE).is_file() and run_folder.load(folder)["search_id"] != search_id:
        raise UserError(f"--resume {uri}: {folder} holds another search. Name a new folder by --out.")
    return replace(arguments, out=None, resume=folder, resume_from=None), store


def _members(arguments: Arguments, store: ObjectStore) -> list[str]:
    """Names of the places of a search's spaces, where it has several."""
    if arguments.resume is None:
        names = members_of(arguments.space)
        return list(names) if len(names) > 1 else []
    with suppress(FileNotFoundError, ValueError):
        return list(json.loads(store.read(run_folder.CONFIG_FILE)).get("members", ()))
    return []


def _compared(store: ObjectStore, folder: Path, leases: list[Lease], say: Callable[[str], None]) -> RunStorage:
    """Bring folder and storage together, record by record, and take them up behind what both have."""
    mirror = Mirror(folder.resolve(), store)
    stored = {name: read_record(store.at(name) if name else store) for name in _records_in(store)}
    own = {name: whole_lines((folder / name / run_folder.RECORD_FILE).read_bytes()) for name in _records_of(folder)}
    uploader = Uploader(mirror, leases, patience=PATIENCE_SECONDS, say=say)
    term = 1 + max((record.term for record in stored.values()), default=0)
    storage = RunStorage(store, folder, mirror, uploader, term)
    newer: dict[str, list[bytes]] = {}
    for name in sorted(stored.keys() | own.keys()):
        there, here = stored.get(name, StoredRecord([])), own.get(name, [])
        if there.trouble:
            say(f"note: {there.trouble}; what the record had from there on is lost, unless it is in {folder}")
            set_aside(store.at(name) if name else store, there.beyond)
        common = _num_common(there.lines, here)
        if common < len(there.lines):
            newer[name] = there.lines
            if common < len(here):
                _keep_apart(folder / name, here[common:], say)
        ahead = here[common:] if common == len(there.lines) else []
        storage.go_on_with(name, stored=len(there.lines), ahead=ahead)
    is_new_here = not (folder / run_folder.CONFIG_FILE).is_file() and store.size(run_folder.CONFIG_FILE) is not None
    if newer or is_new_here:
        say(f"taking the search from {store.path_of('')} into {folder}")
        lock = run_folder.claim(folder)
        try:
            mirror.fetch()
            for name, lines in newer.items():
                (folder / name).mkdir(parents=True, exist_ok=True)
                run_folder.write_atomically(folder / name / run_folder.RECORD_FILE, b"".join(lines).decode())
            _note_address(folder, store)
        finally:
            lock.release()
    return storage


def _records_in(store: ObjectStore) -> set[str]:
    """Places of records, by their segments."""
    parts = (PurePosixPath(name).parts for name in store.names())
    return {"/".join(found[:-2]) for found in parts if len(found) > 1 and found[-2] == FOLDER}


def _records_of(folder: Path) -> list[str]:
    paths = folder.rglob(run_folder.RECORD_FILE)
    places = (path.parent.relative_to(folder).as_posix() for path in paths)
    return ["" if place == "." else place for place in places]


def _num_common(first: Sequence[bytes], second: Sequence[bytes]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _keep_apart(folder: Path, lines: Sequence[bytes], say: Callable[[str], None]) -> None:
    """Keep what another machine did not know of when it went on."""
    with (folder / APART_FILE).open("ab") as file:
        file.writelines(lines)
    say(
        f"note: another machine went on with this search before {len(lines)} events of {folder} reached the storage; "
        f"its own take their place, and they are kept in {folder / APART_FILE}"
    )


def _note_address(folder: Path, store: ObjectStore) -> None:
    """Write down where the run lies, which may have been moved since."""
    for path in [folder / run_folder.CONFIG_FILE, *folder.glob(f"*/{run_folder.CONFIG_FILE}")]:
        config = run_folder.load(path.parent)
        name = path.parent.relative_to(folder).as_posix()
        config[run_folder.STORAGE] = store.uri if name == "." else store.at(name).uri
        run_folder.save(path.parent, config)
