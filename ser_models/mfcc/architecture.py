"""Which network of the MFCC family a configuration asks for."""

from typing import Any

from ser_models.config import ReadConfig
from ser_models.masked_layers import ACTIVATIONS
from ser_models.mfcc.networks import NETWORKS
from ser_models.pooling import POOLINGS

STATISTICS_NETWORK = "statistics_mlp"  # reads one vector a clip; all others read frames

KERNEL_SIZES = (3, 5, 7, 9, 11)  # odd, so that a convolution keeps the number of frames


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
