"""Views of a search that cost more the longer it is: written again after a trial has ended, but seldom enough."""

from collections.abc import Callable
from time import monotonic

from search.record import Event
from search.study import FINAL_EVENTS, StudyTrial

SHARE = 0.05  # of the driver's time


class Seldom:
    """A study's listener that calls a function after trials have ended, for a twentieth of the time at most.

    A board of 2,000 rows takes a fifth of a second; written after every trial of 512 that run at a time, it would keep
    their GPUs waiting. One that is left out is made up for at the next event of any trial. The end of a sitting writes
    its views whatever was written before.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._due = False
        self._not_before = float("-inf")

    def __call__(self, trial: StudyTrial, event: Event) -> None:
        self._due = self._due or event["kind"] in FINAL_EVENTS
        started = monotonic()
        if self._due and started >= self._not_before:
            self._write()
            ended = monotonic()
            self._due = False
            self._not_before = ended + (ended - started) / SHARE
