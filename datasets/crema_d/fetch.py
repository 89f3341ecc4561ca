"""One file over HTTP: resumed where it broke off, tried again, checked before it gets its name."""

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import requests
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

_CHUNK_BYTES = 64 * 1024
_LFS_POINTER_START = b"version https://git-lfs.github.com/spec/"
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """A file could not be had; the text says why. Trying again at once would not help."""


class NoConnectionError(FetchError):
    """The server could not even be reached: no network, no such host, or a proxy in between."""


class Stopped(Exception):
    """The user interrupted, or the whole download was given up."""


@dataclass(frozen=True)
class Checksum:
    """What a complete file has to be.

    Attributes:
        size: bytes
        sha256: in hexadecimal
    """

    size: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Whether *path* is a file of this size and content."""
        try:
            return path.stat().st_size == self.size and _sha256(path) == self.sha256
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class Patience:
    """When to give up.

    Attributes:
        attempts: per file
        connect_seconds: to reach the server
        read_seconds: without a single byte, before a connection counts as stalled
        first_wait_seconds: before the second attempt; doubled before each further one
        longest_wait_seconds: of any wait, also where the server asks for more
    """

    attempts: int = 6
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0


class Fetcher:
    """Fetches files; may be used from several threads at once."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._local = threading.local()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let every running `fetch` raise `Stopped` at its next chunk or wait."""
        self._stop.set()

    def fetch(self, url: str, target: Path, *, checksum: Checksum | None) -> int:
        """Download *url* to *target*.

        The bytes are gathered in ``target.part``. With a checksum a part left by an earlier run or a broken connection
        is continued (HTTP Range); without one there is no telling whether it belongs to the same file, so it is not.

        Args:
            url: where it is
            target: gets its name when the file is complete and right; its folder exists
            checksum: of the complete file, if it is known

        Returns:
            bytes received

        Raises:
            FetchError: after the last attempt, or at once for an answer such as 404
            Stopped: after `stop`
            OSError: the file cannot be written
        """
        part = target.with_name(target.name + ".part")
        received = 0
        for attempt in range(self._patience.attempts):
            if self._stop.is_set():
                raise Stopped
            try:
                received += self._receive(url, part, resume=checksum is not None)
                _check(part, checksum)
            except _Temporary as fault:
                if attempt + 1 == self._patience.attempts:
                    kind = NoConnectionError if fault.unreachable else FetchError
                    raise kind(f"{fault} ({self._patience.attempts} attempts)") from fault.__cause__
                wait = max(self._patience.first_wait_seconds * 2**attempt, fault.wait_seconds)
                if self._stop.wait(min(wait, self._patience.longest_wait_seconds)):
                    raise Stopped from None
            else:
                os.replace(part, target)
                return received
        raise AssertionError("the loop returns or raises")

    def _receive(self, url: str, part: Path, *, resume: bool) -> int:
        """Append to *part*, or start it again; the number of bytes received."""
        start = part.stat().st_size if resume and part.exists() else 0
        # identity: sizes and ranges are those of the file, not of a compressed transfer
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeout = (self._patience.connect_seconds, self._patience.read_seconds)
        received = 0
        try:
            with self._session().get(url, headers=headers, timeout=timeout, stream=True) as response:
                if response.status_code == 416:  # the part is longer than the file: it was another one
                    part.unlink(missing_ok=True)
                    raise _Temporary("the server has no such range")
                _refuse_bad_status(response)
                continues = response.status_code == 206 and _range_start(response) == start
                with part.open("ab" if continues else "wb") as file:
                    for chunk in response.iter_content(_CHUNK_BYTES):
                        file.write(chunk)
                        received += len(chunk)
                        if self._stop.is_set():
                            raise Stopped
        except requests.ReadTimeout as error:
            raise _Temporary(f"no byte for {self._patience.read_seconds:g} s") from error
        except (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError) as error:
            raise _Temporary(f"no connection: {_innermost(error)}", unreachable=True) from error
        except requests.ConnectionError as error:
            # One class for several faults: nobody there, a stall in the middle of a body, a connection that breaks.
            cause = error.args[0] if error.args else error
            if isinstance(cause, ReadTimeoutError):
                raise _Temporary(f"no byte for {self._patience.read_seconds:g} s") from error
            if isinstance(getattr(cause, "reason", None), NewConnectionError):
                raise _Temporary(f"no connection: {_innermost(error)}", unreachable=True) from error
            raise _Temporary(f"the connection broke: {_innermost(error)}") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _Temporary(f"the connection broke: {_innermost(error)}") from error
        except requests.RequestException as error:
            raise FetchError(f"{type(error).__name__}: {error}") from error
        return received

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):  # requests does not promise that a session may be shared by threads
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session


class _Temporary(Exception):
    """A fault after which another attempt is worth while."""

    def __init__(self, reason: str, *, wait_seconds: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.unreachable = unreachable


def _refuse_bad_status(response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    reason = f"the server answered {status} {response.reason}".strip()
    if status in _TEMPORARY_STATUS:
        raise _Temporary(reason, wait_seconds=_retry_after_seconds(response))
    raise FetchError(reason)


def _retry_after_seconds(response: requests.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0  # a date; the back-off has to do


def _range_start(response: requests.Response) -> int:
    """First byte of a partial answer, -1 if it does not say."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _check(part: Path, checksum: Checksum | None) -> None:
    if checksum is None or checksum.matches(part):
        return
    size = part.stat().st_size
    if size < checksum.size:
        with part.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER_START)) == _LFS_POINTER_START
        if not is_pointer:
            raise _Temporary(f"{size} of {checksum.size} bytes came")  # the next attempt goes on from there
        part.unlink()
        raise _Temporary("a Git LFS pointer came in place of the file")
    part.unlink()
    raise _Temporary(
        f"{size} bytes came, {checksum.size} were expected" if size != checksum.size else "its sha256 is wrong"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _innermost(error: BaseException) -> str:
    """The end of the chain of causes that requests and urllib3 wrap around a socket's complaint."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
