"""A network without its weights: what it is called and how large it is, so that a bundle can build it again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ser_data.seeds import derive_seed

Networks = Mapping[str, Callable[..., nn.Module]]  # a family's, by name: (dim, num_classes, **sizes) -> network


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        network: a name of the family's networks
        dim: columns of a frame
        num_classes: logits
        sizes: the network's own settings, by name
    """

    network: str
    dim: int
    num_classes: int
    sizes: Mapping[str, Any]

    def build(self, networks: Networks, *, seed: int | None = None) -> nn.Module:
        """The network; with random weights drawn from *seed* if given, else with weights that a state must replace."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if seed is None else derive_seed(seed, "initialisation"))
            return networks[self.network](self.dim, self.num_classes, **self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """The description as values that JSON takes; ``Architecture(**values)`` reads it back."""
        return {
            "network": self.network,
            "dim": self.dim,
            "num_classes": self.num_classes,
            "sizes": dict(self.sizes),
        }
