"""A bundle's half of the family: network, features and scaler as a description and tensors, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ser_data.features.clip_frames import to_float16
from ser_data.features.extraction import compute
from ser_data.features.settings import settings_from_dict
from ser_data.scaler import Scaler
from ser_models.bundle import LogitsOf
from ser_models.frame_inputs import FrameInputs
from ser_models.mfcc.architecture import Architecture

_WEIGHTS = "network."


def describe(
    architecture: Architecture, inputs: FrameInputs, scaler: Scaler, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What :func:`restore` needs: values that JSON takes, and tensors."""
    description = {
        "architecture": architecture.to_dict(),
        "features": inputs.settings.to_dict(),
        "max_clip_seconds": inputs.max_clip_seconds,
        "max_frames": inputs.max_frames,
    }
    tensors = {
        "columns": torch.from_numpy(inputs.columns),
        "scaler.mean": torch.from_numpy(scaler.mean),
        "scaler.std": torch.from_numpy(scaler.std),
        **{_WEIGHTS + name: value for name, value in weights.items()},
    }
    return description, tensors


def restore(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], num_classes: int) -> LogitsOf:
    """The function from samples (float32, 16 kHz) to logits (float32, ``(num_classes,)``) that was described.

    Raises:
        RuntimeError, KeyError, TypeError, ValueError, UserError: if the parts do not fit one another
    """
    architecture = Architecture(**description["architecture"])
    settings = settings_from_dict(description["features"])
    columns = tensors["columns"].numpy()
    scaler = Scaler(tensors["scaler.mean"].numpy(), tensors["scaler.std"].numpy())
    max_frames = description["max_frames"]
    if architecture.num_classes != num_classes:
        raise ValueError(f"the network has {architecture.num_classes} outputs for {num_classes} emotions")
    shapes = {"columns": columns.shape, "scaler.mean": scaler.mean.shape, "scaler.std": scaler.std.shape}
    for name, shape in shapes.items():
        if shape != (architecture.dim,):
            raise ValueError(f"{name} has shape {shape}, the network reads {architecture.dim} columns")
    if columns.min() < 0 or columns.max() >= settings.dim:
        raise ValueError(f"columns lie in [{columns.min()}, {columns.max()}], the features have {settings.dim}")
    network = architecture.build()
    weights = {name: value for name, value in tensors.items() if name.startswith(_WEIGHTS)}
    network.load_state_dict({name.removeprefix(_WEIGHTS): value for name, value in weights.items()})
    network.eval()

    @torch.no_grad()
    def logits(samples: np.ndarray) -> np.ndarray:
        # Rounded as the cache rounds them, so that a bundle gives the numbers of the training's own validation.
        frames = to_float16(compute(samples, settings))[:max_frames, columns]
        inputs = torch.from_numpy(scaler.apply(frames))[None]
        return network(inputs, torch.tensor([inputs.shape[1]]))[0].numpy()

    return logits
