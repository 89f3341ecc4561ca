"""Files in a place that several machines see: object storage (``s3://``, ``gs://``), or a folder such as an NFS mount.

Spoken to by pyarrow, as Ray does; what pyarrow does not know goes through fsspec, where its package is installed. An
object is written whole or not at all, and never changed in part, so that this much works on every one of them.
"""

import os
import posixpath
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ser_data.errors import UserError

OPTION = "--storage"
PATIENCE_SECONDS = 120.0  # in which a request that failed is tried again, beside the client's own retries
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_CONNECT_SECONDS = 10.0
_ATTEMPTS = 4  # of the client, within a second or two: throttling and errors of the server
_CHUNK_BYTES = 8 * 2**20
_UNFINISHED = ".unfinished-"
_NATIVE = ("s3", "gs", "gcs", "file")
# how pyarrow and the clients below it say that trying again is of no use
_FOR_GOOD = re.compile(
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT|INVALID_CLIENT_TOKEN|"
    "HTTP status 40[13]|permission denied|forbidden",
    re.IGNORECASE,
)
_Result = TypeVar("_Result")


class StorageError(UserError):
    """The storage cannot be reached, read or written."""


@dataclass(frozen=True)
class ObjectStore:
    """The objects below a URI, by names with slashes. Open one with :func:`open_store`.

    Can be pickled and sent to another machine, which opens its own connections and shows its own credentials.

    Attributes:
        uri: of the place, with region and end point where they were asked for or found out; never with a key
        patience: seconds in which a failed request is tried again
    """

    uri: str
    patience: float = PATIENCE_SECONDS

    def at(self, name: str) -> "ObjectStore":
        """The objects below *name*."""
        parts = urlsplit(self.uri)
        return ObjectStore(urlunsplit(parts._replace(path=posixpath.join(parts.path, name))), self.patience)

    def path_of(self, name: str) -> str:
        """What messages call an object."""
        shown = urlunsplit(urlsplit(self.uri)._replace(query=""))
        return posixpath.join(shown, name) if name else shown

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none
            StorageError: it cannot be read
        """
        return self._tried("read", name, lambda files, path: _read(files, path))

    def write(self, name: str, data: bytes) -> None:
        """Put an object there, in the place of one that has its name; nobody ever sees half of it.

        Raises:
            StorageError: it cannot be written
        """
        self._tried("written", name, lambda files, path: _put(files, path, lambda stream: stream.write(data)))

    def upload(self, file: Path, name: str) -> None:
        """As :meth:`write`, the content of a file.

        Raises:
            OSError: the file cannot be read
            StorageError: the object cannot be written
        """
        file.stat()

        def copy(stream: Any) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, stream, _CHUNK_BYTES)

        self._tried("written", name, lambda files, path: _put(files, path, copy))

    def download(self, name: str, file: Path, *, start: int = 0) -> None:
        """Append an object's bytes from *start* on to *file*, as far as they come; made new for 0.

        A download that was interrupted goes on with the size of *file* as *start*. Nothing is compared: whoever needs
        to know that it is whole compares its checksum.

        Raises:
            FileNotFoundError: there is no such object
            OSError: the file cannot be written
            StorageError: the object cannot be read
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if start else "wb") as target:
            target.truncate(start)
            target.seek(start)

            def copy(files: Any, path: str) -> None:
                with files.open_input_file(path) as source:
                    source.seek(target.tell())  # a second try goes on behind what the first one brought
                    while chunk := source.read(_CHUNK_BYTES):
                        with _own_disk():
                            target.write(chunk)

            self._tried("read", name, copy)

    def size(self, name: str) -> int | None:
        """Bytes of an object, None where there is none.

        Raises:
            StorageError: the storage cannot be asked
        """
        found = self._tried("looked for", name, lambda files, path: files.get_file_info(path))
        return int(found.size) if found.is_file else None

    def names(self, prefix: str = "") -> list[str]:
        """Names of all objects below *prefix*, sorted, each relative to this place; none where nothing is there.

        Raises:
            StorageError: they cannot be listed
        """
        from pyarrow.fs import FileSelector

        def listed(files: Any, path: str) -> list[str]:
            found = files.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
            # what fsspec lists begins with a slash
            below = [posixpath.relpath(f"/{info.path}", f"/{path}") for info in found if info.is_file]
            return [posixpath.join(prefix, name) for name in below]

        names: list[str] = self._tried("listed", prefix, listed)
        return sorted(name for name in names if _UNFINISHED not in name)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there.

        Raises:
            StorageError: it cannot be removed
        """
        with suppress(FileNotFoundError):
            self._tried("removed", name, lambda files, path: files.delete_file(path))

    def _tried(self, done: str, name: str, request: Callable[[Any, str], _Result]) -> _Result:
        """Make a request, again with growing pauses while that may help."""
        give_up = time.monotonic() + self.patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                files, root = _file_system(self.uri)
                return request(files, posixpath.join(root, name) if name else root)
            except FileNotFoundError as error:
                if done == "written":
                    raise self._error(done, name, error) from error
                raise
            except _OwnDiskError as error:
                raise error.cause from None
            except OSError as error:
                if _is_for_good(error) or time.monotonic() + pause > give_up:
                    raise self._error(done, name, error) from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _error(self, done: str, name: str, error: OSError) -> StorageError:
        said = " ".join(str(error).split())
        if _is_for_good(error):
            advice = "Check that the place exists, and that the credentials of this machine may read and write there."
        else:
            tried = f"It was tried again for {self.patience:.0f} s. " if self.patience else ""
            advice = f"{tried}Check the address and the network, then try again."
        return StorageError(f"{OPTION}: {self.path_of(name)} cannot be {done} ({brief(said)}). {advice}")


def brief(said: str, most: int = 240) -> str:
    """The start of a client's long message.

    >>> brief("abcdef", 3)
    'abc…'
    """
    return said if len(said) <= most else f"{said[:most]}…"


def open_store(uri: str, *, patience: float = PATIENCE_SECONDS) -> ObjectStore:
    """The store at *uri*, after a look whether it can be written.

    Args:
        uri: ``s3://BUCKET/PATH``, ``gs://BUCKET/PATH``, another scheme that fsspec knows, or a folder; of S3 with
            ``?region=…`` and ``?endpoint_override=…`` where needed
        patience: seconds in which a failed request is tried again

    Raises:
        StorageError: it has no such scheme, has a key in it, cannot be reached, or may not be written
    """
    canonical = _canonical(uri)
    probe = f".writable-{uuid.uuid4().hex[:8]}"
    quick = ObjectStore(canonical, patience=0)  # what is wrong from the start is said at once
    quick.write(probe, b"")
    quick.remove(probe)
    return ObjectStore(canonical, patience)


def _canonical(uri: str) -> str:
    """*uri* as every machine understands it: folders absolute, S3 with the region and end point of this machine."""
    if "://" not in uri:
        return Path(uri).expanduser().resolve().as_uri()
    parts = urlsplit(uri)
    if parts.password is not None or "secret" in parts.query.lower():
        raise StorageError(
            f"{OPTION}: a key does not belong into the address, which is written into files. Leave it out; keys are "
            "read from the environment, ~/.aws or the machine's role."
        )
    if not parts.netloc and parts.scheme != "file":
        raise StorageError(
            f"{OPTION} {uri} names no bucket. Accepted are s3://BUCKET/PATH, gs://BUCKET/PATH or a folder."
        )
    if parts.scheme == "s3":
        query = dict(parse_qsl(parts.query))
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and "endpoint_override" not in query:
            there = urlsplit(endpoint)
            query |= {"endpoint_override": there.netloc, "scheme": there.scheme}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if "region" not in query:
            query["region"] = region or _region_of(parts.netloc, query, uri)
        parts = parts._replace(query=urlencode(query))
    parts = parts._replace(path=parts.path.rstrip("/"))
    canonical = urlunsplit(parts)
    _file_system(canonical)
    return canonical


def _region_of(bucket: str, query: dict[str, str], uri: str) -> str:
    if "endpoint_override" in query:
        return "us-east-1"  # servers of one's own have one region, and take any name for it
    from pyarrow.fs import resolve_s3_region

    try:
        return str(resolve_s3_region(bucket))
    except OSError as error:
        raise StorageError(
            f"{OPTION} {uri}: the region of the bucket cannot be found out ({brief(str(error))}). Check its name and "
            "the network, or name it: s3://BUCKET/PATH?region=eu-central-1"
        ) from error


_opened: dict[tuple[int, str], tuple[Any, str]] = {}  # by process: a forked one must not share connections


def _file_system(uri: str) -> tuple[Any, str]:
    """pyarrow's file system for *uri*, and the path in it."""
    key = os.getpid(), uri
    if key not in _opened:
        _opened[key] = _connect(uri)
    return _opened[key]


def _connect(uri: str) -> tuple[Any, str]:
    from pyarrow import fs

    parts = urlsplit(uri)
    if parts.scheme == "s3":
        query = dict(parse_qsl(parts.query))
        known = {name: query[name] for name in ("region", "endpoint_override", "scheme") if name in query}
        retries = fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
        client = fs.S3FileSystem(
            **known, connect_timeout=_CONNECT_SECONDS, retry_strategy=retries, allow_delayed_open=True,
            background_writes=False,
        )  # fmt: skip
        return client, f"{parts.netloc}{parts.path}"
    try:
        if parts.scheme in _NATIVE:
            files, path = fs.FileSystem.from_uri(uri)
            return files, str(path)
        import fsspec

        files = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(parts.scheme)))
        return files, f"{parts.netloc}{parts.path}"
    except (ImportError, ValueError, OSError) as error:
        raise StorageError(
            f"{OPTION} {uri}: no such storage can be opened ({brief(str(error))}). Accepted are s3://BUCKET/PATH, "
            "gs://BUCKET/PATH, a folder that every machine sees, and what an installed package of fsspec offers."
        ) from error


def _is_for_good(error: OSError) -> bool:
    return isinstance(error, PermissionError | FileNotFoundError) or _FOR_GOOD.search(str(error)) is not None


def _read(files: Any, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        return bytes(stream.read())


def _put(files: Any, path: str, fill: Callable[[Any], object]) -> None:
    """Write an object under its name at once: object stores do, in folders it is renamed when it is whole."""
    from pyarrow.fs import LocalFileSystem

    if not isinstance(files, LocalFileSystem):
        with files.open_output_stream(path) as stream:
            fill(stream)
        return
    folder, name = posixpath.split(path)
    files.create_dir(folder, recursive=True)
    unfinished = posixpath.join(folder, f"{_UNFINISHED}{uuid.uuid4().hex[:8]}-{name}")
    try:
        with files.open_output_stream(unfinished) as stream:
            fill(stream)
        files.move(unfinished, path)
    except BaseException:
        with suppress(OSError):
            files.delete_file(unfinished)
        raise


class _OwnDiskError(Exception):
    """An error of this machine's disk, which no second request mends."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _OwnDiskError(error) from error
