"""Ends a worker whose trial hangs: no epoch for longer than a limit.

Tune can stop a trial only between two reports, and a thread that is stuck in native code cannot be interrupted from
Python at all. So the interpreter's own watchdog thread, which needs no lock, writes where every thread stands and ends
the process; to Tune the worker has died, and its slot is free.
"""

import contextlib
import faulthandler
from pathlib import Path
from typing import Any

HANG_FILE = "hang.txt"


class Watchdog:
    """Armed while its context lasts. Only one may be armed in a process.

    Args:
        folder: the trial's; where the threads stood is left there in ``hang.txt``
        seconds: limit; None for none
    """

    def __init__(self, folder: Path, seconds: float | None) -> None:
        self._path = folder / HANG_FILE
        self._seconds = seconds
        self._file: Any = None

    def __enter__(self) -> "Watchdog":
        if self._seconds is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w")
            self.pat()
        return self

    def pat(self) -> None:
        """The trial has shown that it lives: the limit counts from now."""
        if self._seconds is not None:
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)

    def __exit__(self, *_: object) -> None:
        if self._seconds is not None:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self._path.unlink(missing_ok=True)


def hung(folder: Path) -> bool:
    """Whether the trial in *folder* was ended by its watchdog the last time."""
    with contextlib.suppress(FileNotFoundError):
        return (folder / HANG_FILE).stat().st_size > 0
    return False
