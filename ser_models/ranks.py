"""The ranks of a training as their leader has them: processes on this node that train what it trains, beside it.

The leader is the process that a search gave the trial to; what it tells the others goes over a pipe each, what they add
up over torch's process group. They are started once and kept for its next trials, since importing torch and reading an
encoder take longer than many an epoch. They end with the leader, however that ends (:mod:`ser_models.rank_process`).
"""

import atexit
import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import torch

from ser_models.data_parallel import Group, PeerFailedError, Share, join_group, leave_group
from ser_models.task import Task
from ser_models.training import Trainer
from ser_models.trial import Trial

BUILT, LOADED = "built", "loaded"  # a rank's answers
_LAST_WORDS_SECONDS = 10.0
# Linux tells a child of the death of the thread that started it, and a trial's thread ends with the trial
_starting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ranks")


@dataclass(frozen=True)
class Recipe:
    """What every rank builds one and the same trial from.

    Attributes:
        family_module: its ``build`` is called
        config: of the trial
        task: what all trials share
        seed: the trial's
        max_epochs: length of the whole training
        threads: that each rank may use
    """

    family_module: str
    config: Mapping[str, Any]
    task: Task
    seed: int
    max_epochs: int
    threads: int

    def build(self, probe_clips: int | None = None) -> Trial:
        """The trial, in this process.

        Args:
            probe_clips: on so many clips alone; for a check of the space
        """
        torch.set_num_threads(self.threads)
        family = importlib.import_module(self.family_module)
        trial: Trial = family.build(
            self.config, self.task, seed=self.seed, max_epochs=self.max_epochs, probe_clips=probe_clips
        )
        return trial


class RankDiedError(RuntimeError):
    """A rank is gone without a word."""


@contextlib.contextmanager
def trained_by(ranks: int, recipe: Recipe) -> Iterator[Callable[[Trainer], None]]:
    """Let other processes build the trial of *recipe* too, and train it with this one while the context lasts.

    Args:
        ranks: how many processes, this one among them; of 1, nothing is done
        recipe: of the trial

    Yields:
        what is called with the trial's trainer, once it is built and stands where its checkpoint left it; from then on
        its epochs are trained by all

    Raises:
        Exception: what a rank failed with, with a note that names the rank; the others are ended then
        RankDiedError: a rank's process is gone
    """
    if ranks == 1:
        yield lambda trainer: None
        return
    helpers = _kept_or_started(ranks, recipe.task.device)
    try:
        helpers.tell("build", recipe)
        yield helpers.lead
    except GeneratorExit:  # the search stopped the trial between two epochs
        helpers.forget()
        raise
    except BaseException:
        helpers.close()
        raise
    helpers.forget()


class Ranks:
    """The other ranks, and the process group that joins them to this one.

    Args:
        ranks: how many there are, this one among them
        device: torch's name of where they train; of a GPU each takes one of its own
    """

    def __init__(self, ranks: int, device: str) -> None:
        self.ranks = ranks
        self.device = device
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))  # nobody else can read it: where they find one another
        self._is_joined = False
        self._is_led = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []
        for rank in range(1, ranks):
            ours, theirs = Pipe()
            process = _starting.submit(_start, rank, ranks, device, self._folder, theirs.fileno()).result()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    @property
    def alive(self) -> bool:
        """Whether all are there."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    @property
    def process_ids(self) -> list[int]:
        """Of the other ranks."""
        return [process.pid for process in self._processes]

    def tell(self, word: str, *more: Any) -> None:
        """Send every rank one of the words that :mod:`ser_models.rank_process` knows, without waiting for an answer.

        Raises:
            as :func:`trained_by`
        """
        for pipe in self._pipes:
            try:
                pipe.send((word, *more))
            except OSError as error:
                raise self.reason() from error

    def lead(self, trainer: Trainer) -> None:
        """Wait until every rank has built the trial; from then on *trainer* and theirs train it together.

        Raises:
            as :func:`trained_by`
        """
        self._await(BUILT)
        if trainer.epoch:
            buffer = io.BytesIO()
            torch.save(trainer.state(), buffer)
            self.tell("load", buffer.getvalue())
            self._await(LOADED)
        share = Share(0, self.ranks)
        self.tell("join")
        if not self._is_joined:
            join_group(share, self.device, self._folder)
            self._is_joined = True
        trainer.join(_Leading(share, self))
        self._is_led = True

    def _await(self, answer: str) -> None:
        """Wait until every rank has given *answer*."""
        waiting = list(self._pipes)
        while waiting:
            for pipe in wait(waiting):
                assert isinstance(pipe, Connection)
                try:
                    told = pipe.recv()
                except (EOFError, OSError):
                    told = None
                if told != answer:
                    raise self.reason(told)
                waiting.remove(pipe)

    def forget(self) -> None:
        """The trial is over: its memory is given back, and the processes wait for the next one.

        They are ended where the trial was before it was led: their answers would be taken for those of the next.
        """
        if not self._is_led:
            self.close()
            return
        self._is_led = False
        try:
            self.tell("forget")
        except Exception:  # whoever is gone is noticed by the next trial
            self.close()

    def reason(self, told: Any = None) -> Exception:
        """Why a rank stopped, as an exception to raise.

        Args:
            told: the last word of one of them, where it was read already
        """
        words, listening = [told], list(self._pipes)
        while True:
            failures = [word for word in words if isinstance(word, Exception) and not isinstance(word, PeerFailedError)]
            if failures:
                return failures[0]
            ready = wait(listening, timeout=_LAST_WORDS_SECONDS) if listening else []
            if not ready:
                return RankDiedError(
                    f"{self._which_died()} of the {self.ranks} processes that trained this trial together is gone "
                    "(out of memory, or killed from outside)"
                )
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    words.append(pipe.recv())
                except (EOFError, OSError):
                    listening.remove(pipe)

    def _which_died(self) -> str:
        for rank, process in enumerate(self._processes, start=1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(timeout=1) != 1:  # 1: it failed because another one was gone
                    return f"number {rank + 1}"
        return "one"

    def close(self) -> None:
        """End the other ranks, whatever they are at."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []
        if self._is_joined:
            leave_group(self.device)
            self._is_joined = False
        shutil.rmtree(self._folder, ignore_errors=True)


class _Leading(Group):
    """The group as the rank sees it that leads: it says when an epoch begins, and knows why one ended."""

    def __init__(self, share: Share, helpers: Ranks) -> None:
        super().__init__(share)
        self._helpers = helpers

    def begin_epoch(self, epoch: int) -> None:
        self._helpers.tell("epoch", epoch)

    def _add_up(self, values: torch.Tensor) -> None:
        try:
            super()._add_up(values)
        except PeerFailedError as error:
            raise self._helpers.reason() from error


_kept: Ranks | None = None


def _kept_or_started(ranks: int, device: str) -> Ranks:
    global _kept
    if _kept is not None and (not _kept.alive or (_kept.ranks, _kept.device) != (ranks, device)):
        _kept.close()
        _kept = None
    if _kept is None:
        _kept = Ranks(ranks, device)
    return _kept


@atexit.register
def end_kept_ranks() -> None:
    """End the processes that are kept for the next trial."""
    global _kept
    if _kept is not None:
        _kept.close()
        _kept = None


def _start(rank: int, ranks: int, device: str, folder: Path, pipe: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ser_models.rank_process"]
    command += [str(value) for value in (rank, ranks, device, folder, pipe, os.getpid())]
    # a worker of Ray was given its path in other ways than by this variable
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, pass_fds=[pipe], stdin=subprocess.DEVNULL)
