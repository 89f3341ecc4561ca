"""What every family hands to whoever runs trials. Light to import: the driver reads baselines and needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ser_models.training import Trainer

COST = "gmacs_per_second"  # a fact: what the network costs to use, see ser_models.inference_cost
BundleWriter = Callable[[Mapping[str, "torch.Tensor"], Path, Mapping[str, object]], None]


@dataclass(frozen=True)
class Trial:
    """One configuration, built and ready to train.

    Attributes:
        trainer: its training
        num_parameters: trained numbers of the network
        read_parameters: what the configuration gave, by name; all of it was read
        write_bundle: writes (weights, folder, provenance) in the family's way
        facts: what else a reader of the scores should know, e.g. ``{"precision": "bf16", "trained_parameters": 4614}``;
            the same at every epoch, and named unlike what an epoch reports. A ``precision`` is told as the trainer has
            it, since a checkpoint may bring its own
    """

    trainer: "Trainer"
    num_parameters: int
    read_parameters: Mapping[str, str | int | float | bool | None]
    write_bundle: BundleWriter
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def export(self, folder: Path, provenance: Mapping[str, object]) -> None:
        """Write the weights of the trainer's best epoch as a bundle.

        Args:
            folder: where to; made if missing
            provenance: where the result comes from, as values that JSON takes

        Raises:
            ValueError: before the first epoch
        """
        if not self.trainer.best_weights:
            raise ValueError("no epoch was trained yet: there is no best one to export")
        self.write_bundle(self.trainer.best_weights, folder, provenance)


@dataclass(frozen=True)
class Baseline:
    """What a family reaches without a search, to be beaten by its trials.

    Attributes:
        name: in words; the last of them names its row on the board, e.g. ``"linear probe"``
        report: ``val_uar``, ``val_accuracy``, ``val_macro_f1`` and ``val_loss``; ``val_hits``, right clips per
            validation speaker and emotion; ``seconds`` that it took; ``num_parameters`` trained. Values that JSON takes
        encoder: the label of its encoder, where a search has several; the family leaves it empty
    """

    name: str
    report: Mapping[str, Any]
    encoder: str = ""

    @property
    def title(self) -> str:
        """The name for sentences: of several, with its encoder."""
        return f"{self.name} of {self.encoder}" if self.encoder else self.name
