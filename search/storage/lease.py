"""Who drives a search in a storage: ``driver.json`` there, renewed while the driver lives.

Storages have no locks that all of them know. A lease keeps two drivers apart that start minutes apart, as people do;
of two that start in the same second one notices at its next renewal. What a driver writes after another took over
is passed over (:mod:`search.storage.segments`).
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from ser_data.errors import UserError
from ser_data.object_store import ObjectStore

LEASE_FILE = "driver.json"
RENEW_SECONDS = 20.0
EXPIRE_SECONDS = 75.0  # without a renewal; by then three were missed
_SURELY_DEAD_SECONDS = 1800.0  # by clocks, which may differ between machines
_LOOK_SECONDS = 2.0
_held: set[str] = set()  # tokens of this process


class LeaseLostError(UserError):
    """Another driver has taken the search over."""


@dataclass(frozen=True)
class Holder:
    """A driver.

    Attributes:
        host: its machine's name
        boot: the machine's own name for its last start; empty where it has none
        pid: its process there
        token: of this sitting alone
        at: of the last renewal, in seconds since 1970 by its own clock
        since: when it took the search, ISO 8601
    """

    host: str
    boot: str
    pid: int
    token: str
    at: float
    since: str

    @classmethod
    def own(cls) -> "Holder":
        """This process, with a new token."""
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(socket.gethostname(), _boot(), os.getpid(), secrets.token_hex(8), time.time(), since)

    def is_gone(self) -> bool:
        """Whether it certainly does not live: its process on this machine ended, or it was silent for very long."""
        if (self.host, self.boot) == (socket.gethostname(), _boot()) and self.token not in _held:
            return self.pid == os.getpid() or not _lives(self.pid)
        return time.time() - self.at > _SURELY_DEAD_SECONDS


@dataclass
class Lease:
    """The right to drive the search at *store*, which is asked without patience; from :func:`take_lease`."""

    store: ObjectStore
    holder: Holder
    _renewed: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether it is time for :meth:`renew`."""
        return time.monotonic() - self._renewed >= RENEW_SECONDS

    def renew(self) -> None:
        """Say that this driver lives.

        Raises:
            LeaseLostError: another has taken over
            StorageError: the storage is away
        """
        there = _read(self.store)
        if there is not None and there.token != self.holder.token:
            raise LeaseLostError(
                f"{self.store.path_of('')} was taken over by another driver ({there.host}, process {there.pid}, since "
                f"{there.since}), so this one ends. No trial is lost; that one goes on with them."
            )
        self.holder = Holder(**{**asdict(self.holder), "at": time.time()})
        self.store.write(LEASE_FILE, json.dumps(asdict(self.holder)).encode())
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Let the next driver begin at once.

        Raises:
            StorageError: the storage is away; then the next driver has to wait for a minute
        """
        _held.discard(self.holder.token)
        there = _read(self.store)
        if there is not None and there.token == self.holder.token:
            self.store.remove(LEASE_FILE)


def take_lease(store: ObjectStore, say: Callable[[str], None], *, expire: float = EXPIRE_SECONDS) -> Lease:
    """Become the driver of the search at *store*; where another was seen lately, wait until it is known to be dead.

    Args:
        store: the search's
        say: is told of the waiting
        expire: seconds without a renewal after which a driver is dead

    Raises:
        UserError: another driver lives
        StorageError: the storage cannot be read or written
    """
    first = _read(store)
    if first is not None and not first.is_gone():
        say(
            f"note: {first.host} (process {first.pid}) drives this search since {first.since}, and may have died: "
            f"waiting for up to {expire:.0f} s to see whether it lives"
        )
        give_up = time.monotonic() + expire  # by this machine's clock alone: others may be wrong
        while time.monotonic() < give_up:
            time.sleep(min(_LOOK_SECONDS, expire))
            there = _read(store)
            if there is None:
                break
            if there != first:
                raise UserError(
                    f"{store.path_of('')} is driven by {there.host} (process {there.pid}, since {there.since}), which "
                    "lives. One driver searches at a time: wait for it, or end it there (Ctrl-C), then try again."
                )
    lease = Lease(store.hasty, Holder.own())
    store.write(LEASE_FILE, json.dumps(asdict(lease.holder)).encode())
    _held.add(lease.holder.token)
    return lease


def _read(store: ObjectStore) -> Holder | None:
    try:
        return Holder(**json.loads(store.read(LEASE_FILE)))
    except (FileNotFoundError, ValueError, TypeError):  # none, or damaged: nobody renews that one
        return None


def _boot() -> str:
    """Two machines may have one name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
