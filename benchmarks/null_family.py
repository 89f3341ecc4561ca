"""A model family that trains nothing: its trials only report, so that what is left is the search's own time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ser_models.training import EpochResult


class NullTrainer:
    """Reports a score that grows with the epoch and peaks at ``x`` = 0.3."""

    def __init__(self, x: float, max_epochs: int) -> None:
        self._x = x
        self._max_epochs = max_epochs
        self.history: list[EpochResult] = []

    def run(self) -> Iterator[EpochResult]:
        for epoch in range(len(self.history) + 1, self._max_epochs + 1):
            score = (1 - abs(self._x - 0.3)) * epoch / (epoch + 1)
            self.history.append(EpochResult(epoch, 1 / epoch, 1 / epoch, score, score, score, 0.001, 1.0, 0.001, []))
            yield self.history[-1]

    def state(self) -> dict[str, Any]:
        return {"history": [result.to_dict() for result in self.history]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.history = [EpochResult(**result) for result in state["history"]]


class NullTrial:
    """What :func:`build` gives: the attributes of ``ser_models.trial.Trial`` that a search uses."""

    num_parameters = 1
    facts: ClassVar[dict[str, str]] = {}

    def __init__(self, trainer: NullTrainer) -> None:
        self.trainer = trainer

    def export(self, folder: Path, provenance: Mapping[str, object]) -> None:
        folder.mkdir(parents=True)


def build(
    config: Mapping[str, Any], task: object, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> NullTrial:
    """A trial that does nothing."""
    return NullTrial(NullTrainer(config["x"], max_epochs))
