"""The clips of a task: corpus, split and labels, opened once a process."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ser_data.batches import class_weights
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_data.splits import Split, resolve_split
from ser_models.task import Task
from ser_models.training import BatchSource, TrainingData


@dataclass(frozen=True, eq=False)
class TaskClips:
    """Which clips train and validate. In a task that judges on test, the clips that validate are the test clips.

    Attributes:
        corpus: where they are
        split: the task's split of all clips
        labels: int64 (num_clips,), index into the task's emotions, -1 for clips of other emotions
        speakers: str (num_clips,)
        train: int64, indices of the training clips of the task's emotions
        validation: int64, indices of the judged clips of the task's emotions
    """

    corpus: Corpus
    split: Split
    labels: np.ndarray
    speakers: np.ndarray
    train: np.ndarray
    validation: np.ndarray

    def few(self, number: int) -> "TaskClips":
        """The same with *number* training and validation clips each, of several speakers and emotions.

        The longest are among them, since what a batch takes of the memory goes with its longest clip.
        """
        return replace(self, train=self._some(self.train, number), validation=self._some(self.validation, number))

    def _some(self, indices: np.ndarray, number: int) -> np.ndarray:
        chosen = _spread(indices, number)
        longest = indices[np.argmax(self.corpus.waveforms.num_samples[indices])]
        if longest not in chosen:
            chosen[np.argmin(np.abs(chosen - longest))] = longest
        return chosen

    def training_data(self, train: BatchSource, validation: BatchSource, *, num_classes: int) -> TrainingData:
        """What a training needs beside the batches of these clips."""
        return TrainingData(
            train=train,
            validation=validation,
            class_weights=class_weights(self.labels[self.train], num_classes),
            validation_clips=self.validation,
            validation_labels=self.labels[self.validation],
            validation_speakers=self.speakers[self.validation],
        )


def open_task(task: Task) -> TaskClips:
    """The clips of *task*. Kept for the life of the process, since a warm worker builds many trials of one task.

    Raises:
        UserError: if the corpus cannot be opened, the split is not known, or an emotion has no training clip
    """
    return _opened(task.without_network())


@lru_cache(maxsize=2)
def _opened(task: Task) -> TaskClips:
    corpus = open_corpus(Path(task.corpus_folder))
    split = resolve_split(task.split, corpus, named=_named_splits(corpus), seed=task.seed)
    labels = corpus.labels(task.emotions)
    train, validation = (indices[labels[indices] >= 0] for indices in map(split.indices, ("train", task.judged)))
    counts = np.bincount(labels[train], minlength=len(task.emotions))
    if not counts.all() or not len(validation):
        lacking = [emotion for emotion, count in zip(task.emotions, counts, strict=True) if not count]
        raise UserError(
            f"The split {task.split!r} of {corpus.name} has "
            + (
                f"no training clips of {', '.join(lacking)}. "
                if lacking
                else f"no {task.judged} clips of these emotions. "
            )
            + f"A task needs training clips of each emotion and {task.judged} clips of some. "
            "Choose other --emotions or another --split."
        )
    return TaskClips(
        corpus=corpus,
        split=split,
        labels=labels,
        speakers=corpus.clips["actor"].to_numpy(dtype=str),
        train=train,
        validation=validation,
    )


def _spread(indices: np.ndarray, number: int) -> np.ndarray:
    """*number* of the indices from all over them."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, number).astype(np.int64))]


def _named_splits(corpus: Corpus) -> Path | None:
    if corpus.kind != "crema_d":
        return None
    from crema_d import SPLITS_FOLDER

    return SPLITS_FOLDER
