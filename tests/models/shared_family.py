"""A linear model family for tests of ranks: its batches can be shared, and a rank misbehaves on demand.

``fault`` of a configuration says what the rank called ``at`` does in its second epoch.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ser_data.batches import Batch
from ser_models.data_parallel import Share, SharedBatch
from ser_models.task import Task
from ser_models.training import Trainer, TrainingData, TrainingSettings
from ser_models.trial import Trial
from tests.models.learning_clips import DIM, NUM_CLASSES, ListedBatches, batch_of, learning_data

FAULTS = ("none", "raises", "dies", "out of memory", "out of memory once")


class SharedListedBatches(ListedBatches):
    """Listed clips, which ranks can share."""

    def epoch(self, generator: torch.Generator | None) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().epoch(generator):
            yield Batch(batch.inputs, batch.lengths, batch.labels, batch.clips)

    def shares(self, generator: torch.Generator | None, share: Share) -> Iterator[SharedBatch]:
        for whole in super().epoch(generator):
            own = batch_of(self.clips, self.labels, share.of(whole.clips.numpy()))
            yield SharedBatch(Batch(own.inputs, own.lengths, own.labels, own.clips), whole.labels)


class FaultyModel(nn.Module):
    """Linear on the mean of the frames."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, NUM_CLASSES)
        self.config = config
        self.epoch = 0
        self.failed = False

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if self.training and self.epoch == 2 and rank == self.config["at"]:
            self._misbehave(self.config["fault"])
        self.failed = self.failed or self.epoch == 2
        return self.linear(inputs.sum(dim=1) / lengths[:, None])

    def _misbehave(self, fault: str) -> None:
        if fault == "raises":
            raise ValueError("a fault in the second epoch")
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "out of memory" or (fault == "out of memory once" and not self.failed):
            self.failed = True
            raise torch.OutOfMemoryError("no room")


def build(
    config: Mapping[str, Any], task: Task, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> Trial:
    """A trial over generated clips; the task says nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FaultyModel(config)
    listed = learning_data()
    sources = (
        SharedListedBatches(one.clips, one.labels, one.indices, batch_size=one.batch_size, shuffle=one.shuffle)
        for one in (listed.train, listed.validation)
    )
    data = TrainingData(*sources, *(getattr(listed, name) for name in (
        "class_weights", "validation_clips", "validation_labels", "validation_speakers"
    )))  # fmt: skip
    settings = TrainingSettings(max_epochs, 16, "adamw", 0.01, 0.01, "cosine", 0.1, class_weights=True)

    def begin_epoch(epoch: int) -> None:
        model.epoch = epoch

    trainer = Trainer(model, settings, data, seed=seed, begin_epoch=begin_epoch)
    return Trial(trainer, 1, {}, lambda *_: None)
