"""How Ray Tune talks to a :class:`search.study.Study`: as searcher, as scheduler and as stopper.

Tune keeps no state that matters. It pickles searchers and schedulers into its snapshots; ours leave the study out,
because a new Tuner is made from the record at every start.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.portfolio import Portfolio
from search.result_keys import SCORE
from search.study import Study
from search.trial import CONFIG, DISK_FULL, NODE_PROBLEM, NUMBER, SPACE_PROBLEM, STORAGE_AWAY
from search.watchdog import HANG_FILE, hung
from ser_data.errors import UserError
from ser_data.object_store import StorageError


class StudySearcher(Searcher):
    """Hands out the study's trials, at most as many at a time as *max_concurrent* gives."""

    def __init__(
        self,
        study: Study | Portfolio,
        stopper: "SittingStopper",
        error_file_of: Callable[[int], Path],
        max_concurrent: Callable[[], int],
    ) -> None:
        """Ask *study*; where a trial fails, its traceback is in *error_file_of* its number."""
        super().__init__(metric=SCORE, mode="max")
        self._study: Study | Portfolio | None = study
        self._stopper = stopper
        self._error_file_of = error_file_of
        self._max_concurrent = max_concurrent
        self._live: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next configuration, None while nothing may start, or Tune's word for: that was all."""
        assert self._study is not None
        if len(self._live) >= self._max_concurrent():
            return None
        proposal = None
        with self._stopper.guarding():
            proposal = self._study.next_trial()
        if proposal is None:
            return None if self._study.waiting and not self._stopper.stop_all() else Searcher.FINISHED
        self._live[trial_id] = proposal.number
        return {NUMBER: proposal.number, CONFIG: proposal.config}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._live.pop(trial_id, None)
        # a worker that dies while the sitting ends (Ctrl-C reaches it too) says nothing of its trial
        if error and number is not None and not self._stopper.stop_all():
            assert self._study is not None
            with self._stopper.guarding():
                self._study.fail(number, _reason(self._error_file_of(number)))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record holds it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_study": None, "_error_file_of": None, "_max_concurrent": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "StudySearcher":
        return self


class StudyScheduler(FIFOScheduler):
    """Passes every result to the study and stops the trial when the study says so."""

    def __init__(self, study: Study | Portfolio, stopper: "SittingStopper") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._study: Study | Portfolio | None = study
        self._stopper = stopper

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        assert self._study is not None
        if SPACE_PROBLEM in result:
            self._stopper.space_problem = result[SPACE_PROBLEM]
        if DISK_FULL in result:
            said = result[DISK_FULL].removesuffix(".")
            self._stopper.fail(
                UserError(
                    f"{said}. No trial is lost: free some disk space, then go on with --resume and the search's "
                    "folder; the running trials go on from the epoch before."
                )
            )
        if NODE_PROBLEM in result:
            self._stopper.fail(
                UserError(f"{result[NODE_PROBLEM]}\nNo trial is lost: mend it, then go on with --resume.")
            )
        if STORAGE_AWAY in result:
            self._stopper.fail(StorageError(result[STORAGE_AWAY]))
        if self._stopper.stop_all():
            return TrialScheduler.STOP
        stop = True
        with self._stopper.guarding():
            stop = self._study.report(trial.config[NUMBER], result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        assert self._study is not None
        if self._stopper.stop_all():
            return  # the trial did not end, its sitting did
        # does nothing unless the trainable returned before its last epoch: the study ended all others itself
        number = trial.config[NUMBER]
        with self._stopper.guarding():
            self._study.fail(number, f"trial {number} ended after {len(self._study.trials[number].epochs)} epochs")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_study": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "StudyScheduler":
        return self


class SittingStopper(Stopper):
    """Ends the sitting when its time is up, somebody asked for it, or the space cannot be trained.

    Attributes:
        space_problem: what is wrong with a corner of the space, None so far
        failure: what the study raised while Tune ran, None so far
    """

    def __init__(self, deadline: float | None, gpus_spent: Callable[[], bool] | None = None) -> None:
        """Stop everything at *deadline*, or when *gpus_spent*, or when :meth:`interrupt` was called.

        Args:
            deadline: as :func:`time.monotonic` counts; None for no end
            gpus_spent: whether the GPU hours are used up; None where they do not count
        """
        self._deadline = deadline
        self._gpus_spent = gpus_spent
        self._interrupted = threading.Event()
        self.space_problem: str | None = None
        self.failure: Exception | None = None

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Keep an exception of the study and end the sitting with it.

        Tune would blame a trial for it, or hide it in an error with a traceback for a message; a full disk is neither.
        """
        try:
            yield
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the sitting with *error*, unless another ended it before."""
        self.failure = self.failure or error

    def interrupt(self) -> None:
        self._interrupted.set()

    @property
    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def seconds_left(self) -> float | None:
        """Until the deadline, None where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def out_of_gpu_hours(self) -> bool:
        return self._gpus_spent is not None and self._gpus_spent()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        ended = self.space_problem is not None or self.failure is not None
        return ended or self.interrupted or self.out_of_time or self.out_of_gpu_hours

    def __getstate__(self) -> dict[str, Any]:
        return {"_deadline": self._deadline, "_gpus_spent": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SittingStopper":
        return self


def _reason(error_file: Path) -> str:
    """The error at the end of the traceback that the trial left, in one line, or that it left none."""
    if hung(error_file.parent):
        return f"it hung: no epoch within --epoch-timeout; where it stood is in {error_file.parent / HANG_FILE}"
    try:
        lines = error_file.read_text().strip().splitlines()
    except FileNotFoundError:
        return "its worker process died (out of memory, or killed from outside)"
    # the frames are indented, the error and its message are not, be it one line or several
    message = list(itertools.takewhile(lambda line: not line.startswith(" "), reversed(lines)))
    return " ".join(reversed(message)) or "unknown"
