"""Which network a configuration asks for, and how it is built from a description alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ser_data.seeds import derive_seed
from ser_models.config import ReadConfig
from ser_models.mfcc.layers import ACTIVATIONS
from ser_models.mfcc.networks import NETWORKS
from ser_models.pooling import POOLINGS

STATISTICS_NETWORK = "statistics_mlp"  # reads one vector a clip; all others read frames

KERNEL_SIZES = (3, 5, 7, 9, 11)  # odd, so that a convolution keeps the number of frames


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        network: a name of ``NETWORKS``
        dim: features a frame
        num_classes: logits
        sizes: the network's own settings, by name
    """

    network: str
    dim: int
    num_classes: int
    sizes: Mapping[str, Any]

    def build(self, *, seed: int | None = None) -> nn.Module:
        """The network; with random weights drawn from *seed* if given, else with weights that a state must replace."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if seed is None else derive_seed(seed, "initialisation"))
            return NETWORKS[self.network](self.dim, self.num_classes, **self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """The description as values that JSON takes; ``Architecture(**values)`` reads it back."""
        return {
            "network": self.network,
            "dim": self.dim,
            "num_classes": self.num_classes,
            "sizes": dict(self.sizes),
        }


def read_network(config: ReadConfig) -> str:
    """The name of the network."""
    return config.choice("network", NETWORKS)


def read_sizes(config: ReadConfig, network: str) -> dict[str, Any]:
    """The settings that *network* has, read from the configuration by their names."""
    sizes: dict[str, Any] = {}
    if network == STATISTICS_NETWORK:
        sizes["hidden_units"] = config.integer("hidden_units", low=4, high=2048)
        sizes["hidden_layers"] = config.integer("hidden_layers", low=1, high=8)
    if network in ("cnn", "crnn", "crnn_attention"):
        sizes["channels"] = config.integer("channels", low=4, high=512)
        sizes["blocks"] = config.integer("blocks", low=1, high=8)
        sizes["kernel_size"] = int(config.take("kernel_size", choices=KERNEL_SIZES))  # type: ignore[arg-type]  # the choices are whole
    if network in ("bilstm", "crnn", "crnn_attention"):
        sizes["hidden_units"] = config.integer("hidden_units", low=4, high=512)
        sizes["recurrent_layers"] = config.integer("recurrent_layers", low=1, high=4)
    if network in ("bilstm", "cnn", "crnn"):
        sizes["pooling"] = config.choice("pooling", POOLINGS)
    sizes["activation"] = config.choice("activation", ACTIVATIONS)
    sizes["dropout"] = config.number("dropout", low=0.0, high=0.7)
    return sizes
