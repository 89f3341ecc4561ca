"""A model family for tests of the search: no network, a score that is a formula, and trials that misbehave on demand.

A trial's ``fault`` says what it does wrong; ``FAULTS`` lists them. What a worker did is left in the cache folder of
its task, since a test cannot look into another process: ``loaded.txt`` has a line per checkpoint that was taken up,
``ran.txt`` one per epoch that was trained, with the host's name.
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import EpochResult

FAULTS = {
    "none": "",
    "raises": "raises in its second epoch",
    "never_builds": "raises when it is built, on a few clips for a trial too",
    "nan": "reports a score that is no number in its second epoch",
    "no_score": "reports no val_uar at all",
    "worker_dies_once": "its process is killed at the start of its second epoch, the first time",
    "ends_early": "returns after its first epoch",
    "hangs": "sleeps for ever in its second epoch",
    "disk_full_once": "finds no room for the checkpoint of its second epoch, the first time",
    "out_of_memory": "raises MemoryError in its second epoch",
}
SHAPE = (0.5, 1.0, 0.75)  # of the score over the epochs: it peaks at the second, and repeats its last value after
SPEAKERS, EMOTIONS, CLIPS = 2, 6, 2  # validation part of the tone corpus: clips of each emotion by each speaker


def score_of(x: float, epoch: int) -> float:
    """Validation UAR of a trial at an epoch, in [0, 1], a whole number of clips."""
    num_clips = SPEAKERS * EMOTIONS * CLIPS
    return round((1 - abs(x - 0.3)) * SHAPE[min(epoch, len(SHAPE)) - 1] * num_clips) / num_clips


def hits_of(score: float) -> list[list[int]]:
    """Right clips per speaker and emotion that make up *score*; the first speaker is the easier one."""
    hits = []
    left = round(score * SPEAKERS * EMOTIONS * CLIPS)
    for _ in range(SPEAKERS):
        mine = min(left, EMOTIONS * CLIPS)
        left -= mine
        hits.append([mine // EMOTIONS + (emotion < mine % EMOTIONS) for emotion in range(EMOTIONS)])
    return hits


class KnobResult(EpochResult):
    """An epoch's result that can lack its score."""

    def to_dict(self) -> dict[str, Any]:
        report = super().to_dict()
        return {key: value for key, value in report.items() if value is not None}


class KnobTrainer:
    """Reports one epoch after the other, and does what its fault says."""

    def __init__(self, config: Mapping[str, Any], max_epochs: int, task: Task) -> None:
        self._x = config["x"]
        self._fault = config.get("fault", "none")
        self._seconds = config.get("epoch_seconds", 0.0)
        self._held = config.get("held", False)
        self._max_epochs = max_epochs
        self._task = task
        self._folder = Path(task.cache_dir)
        self.history: list[EpochResult] = []

    def run(self) -> Iterator[EpochResult]:
        for epoch in range(len(self.history) + 1, self._max_epochs + 1):
            if epoch == 2:
                self._misbehave()
            while self._held and epoch == 3 and not (self._folder / f"open-{self._x}").exists():
                time.sleep(0.05)
            time.sleep(self._seconds)
            with (self._folder / "ran.txt").open("a") as file:
                file.write(f"{self._x} {epoch} {socket.gethostname()}\n")
            self.history.append(self._result(epoch))
            yield self.history[-1]
            if self._fault == "ends_early":
                return

    def _misbehave(self) -> None:
        if self._fault == "raises":
            raise ValueError(f"a fault in the second epoch,\nx is {self._x}")
        if self._fault == "worker_dies_once" and self._first_time("died"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "out_of_memory":
            raise MemoryError(f"no room for x={self._x}")
        while self._fault == "hangs":
            time.sleep(1)

    def _first_time(self, what: str) -> bool:
        marker = self._folder / f"{what}.txt"
        if marker.exists():
            return False
        marker.write_text(str(self._x))
        return True

    def _result(self, epoch: int) -> EpochResult:
        score: float | None = score_of(self._x, epoch)
        hits = hits_of(score)
        if self._fault == "nan" and epoch == 2:
            score = float("nan")
        if self._fault == "no_score":
            score = None
        loss = (1 + self._x) / epoch
        return KnobResult(epoch, loss, loss, score, score, score, 0.01, 100.0, 0.001, hits)  # type: ignore[arg-type]

    def predict_with_best_weights(self) -> np.ndarray:
        """Right on the first clips of each class, as many as its best score says; sure of the next class on others."""
        clips = open_task(self._task)
        labels = clips.labels[clips.validation]
        best = max(result.val_uar for result in self.history)
        predicted = labels.copy()
        for emotion in np.unique(labels):
            own = np.flatnonzero(labels == emotion)
            predicted[own[round(best * len(own)) :]] = (emotion + 1) % len(self._task.emotions)
        return np.eye(len(self._task.emotions))[predicted]

    def state(self) -> dict[str, Any]:
        if self._fault == "disk_full_once" and len(self.history) == 2 and self._first_time("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return {"history": [result.to_dict() for result in self.history]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.history = [KnobResult(**result) for result in state["history"]]
        with (self._folder / "loaded.txt").open("a") as file:
            file.write(f"{self._x} {len(self.history)}\n")


class KnobTrial:
    """What :func:`build` gives: the attributes of ``ser_models.trial.Trial`` that a search uses."""

    num_parameters = 7

    def __init__(self, trainer: KnobTrainer, facts: Mapping[str, str | int | float]) -> None:
        self.trainer = trainer
        self.facts = facts

    def export(self, folder: Path, provenance: Mapping[str, object]) -> None:
        if not self.trainer.history:
            raise ValueError("no epoch was trained yet: there is no best one to export")
        folder.mkdir(parents=True)
        (folder / "provenance.txt").write_text("\n".join(f"{name}={value}" for name, value in provenance.items()))


def build(
    config: Mapping[str, Any], task: Task, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> KnobTrial:
    """A trial that trains nothing."""
    if config.get("fault") == "never_builds":
        raise ValueError(f"x={config['x']:.1f} needs more than there is")
    folder = Path(task.cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    quick = {**config, "epoch_seconds": 0.0} if probe_clips is not None else config
    depth = config.get("depth")
    facts = (
        {} if depth is None else {"precision": "fp32", "trained_parameters": 3 + depth, "boundary": f"layer {depth}"}
    )
    return KnobTrial(KnobTrainer(quick, max_epochs, task), facts)
