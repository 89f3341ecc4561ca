"""Small generated learning problems for the tests of training: sequences whose class shows in their mean."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ser_models.training import TrainingData

NUM_CLASSES = 3
DIM = 5


@dataclass
class ListedBatch:
    """What ``ser_data.batches.Batch`` holds."""

    inputs: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor


class ListedBatches:
    """Batches of clips held as a list of (frames, dim) tensors."""

    def __init__(
        self, clips: list[torch.Tensor], labels: np.ndarray, indices: np.ndarray, *, batch_size: int, shuffle: bool
    ) -> None:
        self.clips, self.labels, self.indices = clips, labels, indices
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def epoch(self, generator: torch.Generator | None) -> Iterator[ListedBatch]:
        order = torch.randperm(len(self.indices), generator=generator).numpy() if self.shuffle else slice(None)
        indices = self.indices[order]
        for start in range(0, len(indices), self.batch_size):
            yield batch_of(self.clips, self.labels, indices[start : start + self.batch_size])


def batch_of(clips: list[torch.Tensor], labels: np.ndarray, indices: np.ndarray) -> ListedBatch:
    chosen = [clips[index] for index in indices]
    return ListedBatch(
        inputs=torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True),
        lengths=torch.tensor([len(clip) for clip in chosen]),
        labels=torch.from_numpy(labels[indices]),
        clips=torch.from_numpy(indices),
    )


def learning_data(
    *,
    num_train: int = 48,
    num_validation: int = 30,
    batch_size: int = 16,
    signal: float = 1.0,
    permute_with: int | None = None,
) -> TrainingData:
    """A problem of :data:`NUM_CLASSES` classes with clips of 3 to 12 frames and four validation speakers.

    Args:
        num_train: training clips
        num_validation: validation clips
        batch_size: of the training batches
        signal: how far each class's mean stands from 0, in standard deviations of a frame
        permute_with: seed that permutes the training labels, so that nothing can be learnt
    """
    generator = np.random.default_rng(7)
    total = num_train + num_validation
    labels = np.arange(total) % NUM_CLASSES
    centres = np.eye(NUM_CLASSES, DIM) * signal
    clips = [
        torch.from_numpy((centres[label] + generator.normal(size=(generator.integers(3, 13), DIM))).astype(np.float32))
        for label in labels
    ]
    train, validation = np.arange(num_train), np.arange(num_train, total)
    learnt = labels.copy()
    if permute_with is not None:
        learnt[:num_train] = np.random.default_rng(permute_with).permutation(labels[:num_train])
    return TrainingData(
        train=ListedBatches(clips, learnt, train, batch_size=batch_size, shuffle=True),
        validation=ListedBatches(clips, labels, validation, batch_size=8, shuffle=False),
        class_weights=torch.tensor([0.5, 1.0, 1.5]),
        validation_clips=validation,
        validation_labels=labels[validation],
        validation_speakers=np.array([f"s{index % 4}" for index in range(num_validation)]),
    )
