"""What puts a search into its storage while it runs: one thread of the driver, beside the trials.

Records come first, in the order in which they were written, then what waits for them, the lease, and now and then the
views. Epochs are gathered for a second, so that a hundred GPUs do not wait for a request each; whoever needs to know
that something is there before he acts on it waits for it (:meth:`Uploader.wait`), which ends the gathering.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from search.lease import Lease
from search.mirror import Mirror
from search.segments import SegmentWriter
from search.study import FINAL_EVENTS
from ser_data.errors import UserError
from ser_data.object_store import StorageError

#: Events that somebody acts on in a way that their loss would betray: a trial starts, a sitting begins or has ended.
#: A lost epoch is reported again from the trial's checkpoint, and a lost outcome judged again from its epochs.
AWAITED = ("sitting", "suggested", "ended")
GATHER_SECONDS = 1.0
VIEWS_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_REMOVERS = 4  # requests at a time
_LAST_WORDS_SECONDS = 15.0  # after Ctrl-C, where the storage is away


class Uploader:
    """The thread. Made with everything it needs; :meth:`start` begins, :meth:`close` ends.

    Attributes:
        patience: seconds in which a storage that is away may come back
        failure: what it gave up with, None so far
        on_failure: called with that, from the thread
        impatient: whether the sitting is to end soon, so that nothing is waited for long
    """

    def __init__(self, mirror: Mirror, leases: Sequence[Lease], *, patience: float, say: Callable[[str], None]) -> None:
        """Write nothing yet.

        Args:
            mirror: of the search's folder
            leases: renewed while the thread lives
            patience: seconds in which a storage that is away may come back
            say: is told that it is away, and that it is back
        """
        self._mirror = mirror
        mirror.between = self._renew
        self._leases = leases
        self.patience = patience
        self._say = say
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._writers: dict[str, SegmentWriter] = {}
        self._lines: dict[str, list[bytes]] = {}
        self._jobs: deque[tuple[int, Callable[[], None]]] = deque()
        self._added = self._lines_done = self._jobs_done = 0
        self._removals = ThreadPoolExecutor(_REMOVERS, thread_name_prefix="storage")
        self._views_due = False
        self._views_at = time.monotonic()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self.failure: Exception | None = None
        self.on_failure: Callable[[Exception], None] = lambda error: None
        self.impatient: Callable[[], bool] = lambda: False

    def start(self) -> None:
        self._thread.start()

    def open_record(self, name: str, writer: SegmentWriter) -> None:
        """Let *writer* write the record *name*; those that were opened first are written first."""
        with self._changed:
            self._writers[name] = writer
            self._lines[name] = []

    def add(self, name: str, line: bytes, kind: str) -> None:
        """Take in a line of the record *name*, and wait until it is there where it is :data:`AWAITED`.

        Raises:
            StorageError: it is away for longer than the patience
            LeaseLostError: another driver took the search over
        """
        with self._changed:
            self._lines[name].append(line)
            self._added += 1
            self._views_due = self._views_due or kind in FINAL_EVENTS
        if kind in AWAITED:
            self.wait()
        elif self.failure is not None:
            raise self.failure

    def behind(self, job: Callable[[], None]) -> None:
        """Do *job* in the thread as soon as all lines that were added before are there."""
        with self._changed:
            self._added += 1
            self._jobs.append((self._added, job))

    def aside(self, removal: Callable[[], None]) -> None:
        """Remove something as soon as all lines that were added before are there, while nobody waits for it.

        It is tried once: what stays costs room, and nothing else.
        """
        self.behind(partial(self._remove, removal))

    def wait(self, *, jobs: bool = False) -> None:
        """Return as soon as all lines that were added before are there.

        Args:
            jobs: and all jobs are done

        Raises:
            Exception: as :meth:`add`
        """

        def is_done() -> bool:
            return (self._jobs_done if jobs else self._lines_done) >= wanted

        with self._changed:
            wanted = self._added
            self._wake.set()
            self._changed.wait_for(lambda: is_done() or self.failure is not None)
            if self.failure is not None and not is_done():
                raise self.failure

    def close(self) -> None:
        """Write what is left, and end; what cannot be written stays in :attr:`failure`."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._removals.shutdown(cancel_futures=self.failure is not None)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._wake.wait(GATHER_SECONDS)
                self._round()
            while self._jobs or any(self._lines.values()):
                self._round()
        except Exception as error:
            with self._changed:
                self.failure = error
                self._changed.notify_all()
            self.on_failure(error)

    def _round(self) -> None:
        self._wake.clear()
        with self._changed:
            lines = {name: taken for name, taken in self._lines.items() if taken}
            self._lines = {name: [] for name in self._lines}
            added = self._added
        self._renew()
        for name, taken in lines.items():
            self._patiently(partial(self._writers[name].write, taken))
        with self._changed:
            self._lines_done = added
            self._changed.notify_all()
        self._do_jobs(added)
        for name in lines:
            self._patiently(partial(self._merge, name))
        if self._views_due and time.monotonic() - self._views_at > VIEWS_SECONDS:
            self._views_due = False
            self._patiently(self._mirror.put)
            self._views_at = time.monotonic()

    def _do_jobs(self, through: int) -> None:
        """Do jobs up to the number *through*, one at least, until somebody waits for a line."""
        while self._jobs and self._jobs[0][0] <= through:
            number, job = self._jobs[0]
            self._patiently(job)
            with self._changed:
                self._jobs.popleft()
                self._jobs_done = number
                self._changed.notify_all()
            self._renew()
            if self._wake.is_set():
                return
        with self._changed:
            self._jobs_done = max(self._jobs_done, through)
            self._changed.notify_all()

    def _merge(self, name: str) -> None:
        for removal in self._writers[name].merge():
            self._remove(removal)

    def _remove(self, removal: Callable[[], None]) -> None:
        def quietly() -> None:
            with suppress(StorageError):
                removal()

        self._removals.submit(quietly)

    def _renew(self) -> None:
        for lease in self._leases:
            if lease.due:
                self._patiently(lease.renew)

    def _patiently(self, request: Callable[[], None]) -> None:
        """Make *request*, again with growing pauses while the storage is away; said once."""
        started = time.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        said = False
        while True:
            try:
                request()
            except StorageError as error:
                away = time.monotonic() - started
                if away > (min(self.patience, _LAST_WORDS_SECONDS) if self._leaving else self.patience):
                    raise
                if not said:
                    self._say(
                        f"note: {error} It is tried for {self.patience / 60:.0f} more minutes; meanwhile this machine "
                        "keeps what there is to tell."
                    )
                    said = True
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                if said:
                    self._say("note: the storage is back")
                return

    @property
    def _leaving(self) -> bool:
        return self._closing or self.impatient()


def given_up(error: StorageError, folder: Path) -> UserError:
    """What a user is told whose sitting ended since the storage stayed away."""
    return UserError(
        f"{error}\nNothing is lost: {folder} on this machine has all that the search knows, and running trials go on "
        f"from their last checkpoint in the storage. When it is back, go on here with --resume {folder}"
    )
