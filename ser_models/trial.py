"""What every family hands to whoever runs trials."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ser_models.training import Trainer

BundleWriter = Callable[[Mapping[str, torch.Tensor], Path, Mapping[str, object]], None]


@dataclass(frozen=True)
class Trial:
    """One configuration, built and ready to train.

    Attributes:
        trainer: its training
        num_parameters: trained numbers of the network
        read_parameters: what the configuration gave, by name; all of it was read
        write_bundle: writes (weights, folder, provenance) in the family's way
    """

    trainer: Trainer
    num_parameters: int
    read_parameters: Mapping[str, str | int | float | bool | None]
    write_bundle: BundleWriter

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
