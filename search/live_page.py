"""``--live``: the run's page while it runs, on 127.0.0.1, refreshed.

The record is on disk before anybody acts on it, so the page is built from the folder, as anybody's would be; nothing in
the search knows of it. It is built in a thread of low priority, only after something was written, and so seldom that it
takes a twentieth of one core at most.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from search.run_folder import RECORD_FILE

_EVERY_SECONDS = 5.0
_SHARE = 0.05  # of a core
_NICE = 10
_HOSTS = ("127.0.0.1", "localhost")
_WAITING = b"<!doctype html><meta http-equiv=refresh content=2><title>waiting</title><p>The page is being built."


class LivePage:
    """The latest page of a run's folder, built again when its record has grown."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: object = None
        self._content = _WAITING
        self._lock = threading.Lock()

    @property
    def content(self) -> bytes:
        """Whole at any time: it is replaced at once."""
        with self._lock:
            return self._content

    @property
    def version(self) -> str:
        """Another one for every other content."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    def refresh(self) -> bool:
        """Build it, if something was written since the last time; says whether."""
        from search.pages.found import find_run
        from search.pages.page import page_of

        seen = self._state()
        if seen == self._seen:
            return False
        run = find_run(self._folder)
        content = page_of([run], run.problems, live=True).encode()
        with self._lock:
            self._content, self._seen = content, seen
        return True

    def _state(self) -> list[tuple[str, int]]:
        """Sizes of the run's records, which only grow."""
        records = [self._folder / RECORD_FILE, *self._folder.glob(f"*/{RECORD_FILE}")]
        return [(str(path), path.stat().st_size) for path in records if path.is_file()]


@contextmanager
def live_page(folder: Path, say: Callable[[str], None], *, wanted: bool = True) -> Iterator[str | None]:
    """Serve the page of the run in *folder* until the context ends.

    Args:
        folder: of a search that has begun
        say: prints the address
        wanted: False for nothing at all

    Yields:
        the address
    """
    if not wanted:
        yield None
        return
    page = LivePage(folder)
    server = ThreadingHTTPServer((_HOSTS[0], 0), _handler(page))  # 0: any port that is free
    server.daemon_threads = True
    ending = threading.Event()
    threads = [
        threading.Thread(target=server.serve_forever, name="live page server", daemon=True),
        threading.Thread(target=_keep_building, args=(page, ending, say), name="live page", daemon=True),
    ]
    address = f"http://{_HOSTS[0]}:{server.server_port}/"
    say(f"live page, as long as the search runs: {address}")
    for thread in threads:
        thread.start()
    try:
        yield address
    finally:
        ending.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join(timeout=10)


def _keep_building(page: LivePage, ending: threading.Event, say: Callable[[str], None]) -> None:
    with contextlib.suppress(OSError, AttributeError):  # of this thread alone, where the system can
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    complained = False
    while not ending.is_set():
        started = time.monotonic()
        try:
            page.refresh()
        except Exception as error:  # the search goes on whatever becomes of its page
            if not complained:
                say(f"note: the live page could not be built ({type(error).__name__}: {error}); it is tried again")
            complained = True
        ending.wait(max(_EVERY_SECONDS, (time.monotonic() - started) / _SHARE))


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Gives the page at ``/``, and at ``/version`` what changes with it."""

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in _HOSTS:  # another site's script, under a name that it made point here
                self.send_error(403)
            elif self.path == "/":
                self._give(page.content)
            elif self.path == "/version":
                self._give(b"")
            else:
                self.send_error(404)

        def _give(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("ETag", page.version)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the reader has left
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the search's."""

    return Handler
