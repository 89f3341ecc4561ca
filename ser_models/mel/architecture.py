"""Which network of the mel family a configuration asks for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ser_models.architecture import Networks
from ser_models.config import ConfigError, ReadConfig
from ser_models.frame_inputs import FrameInputs
from ser_models.masked_layers import ACTIVATIONS
from ser_models.mel.autoencoder import LEAST_SIDE, MelAutoencoder
from ser_models.mel.inputs import CHANNELS
from ser_models.mel.layers import bands_needed
from ser_models.mel.networks import MelCnn, MelCrnn, ParallelCnn
from ser_models.pooling import POOLINGS

AUTOENCODER = "autoencoder"
NETWORKS: Networks = MappingProxyType(
    {"cnn": MelCnn, "parallel_cnn": ParallelCnn, "crnn": MelCrnn, AUTOENCODER: MelAutoencoder}
)
KERNEL_SIZES = (3, 5, 7)  # odd, so that a convolution keeps the number of bands and frames


def read_network(config: ReadConfig) -> str:
    """The name of the network."""
    return config.choice("network", NETWORKS)


def read_sizes(config: ReadConfig, network: str, inputs: FrameInputs) -> Mapping[str, Any]:
    """The settings that *network* has for *inputs*, read from the configuration by their names.

    Raises:
        ConfigError: if one is missing or out of range, or the spectrogram is too small for the network
    """
    common = {
        "activation": config.choice("activation", ACTIVATIONS),
        "dropout": config.number("dropout", low=0.0, high=0.7),
        "width": config.integer("width", low=4, high=256),
    }
    settings = inputs.settings
    num_mels = settings.num_mels  # type: ignore[union-attr]  # those of this family are log-mel
    if network == AUTOENCODER:
        num_frames = inputs.max_frames
        assert num_frames is not None
        for name, size in (("num_mels", num_mels), ("max_clip_seconds", num_frames)):
            if size < LEAST_SIDE:
                raise ConfigError(
                    f"The mel configuration makes pictures of {num_mels} bands and {num_frames} frames. The "
                    f"autoencoder halves both sides four times: accepted are {LEAST_SIDE} and more each. Give a larger "
                    f"{name}, or a shorter hop_seconds."
                )
        return {**common, "num_frames": num_frames, "bottleneck": config.integer("bottleneck", low=2, high=1024)}
    blocks = config.integer("blocks", low=1, high=6)
    if num_mels < bands_needed(blocks):
        raise ConfigError(
            f"The mel configuration has num_mels = {num_mels} and blocks = {blocks}: {blocks} blocks need "
            f"{bands_needed(blocks)} bands, since each halves them. Give more bands or fewer blocks in the space."
        )
    sizes = {
        **common,
        "channels": len(inputs.columns) // num_mels,
        "blocks": blocks,
        "kernel_size": int(config.take("kernel_size", choices=KERNEL_SIZES)),  # type: ignore[arg-type]  # the choices are whole
        "batch_norm": config.flag("batch_norm"),
        "pooling": config.choice("pooling", POOLINGS),
    }
    assert sizes["channels"] in CHANNELS
    if network == "crnn":
        sizes["hidden_units"] = config.integer("hidden_units", low=4, high=512)
        sizes["recurrent_layers"] = config.integer("recurrent_layers", low=1, high=4)
    return sizes
