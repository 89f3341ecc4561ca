"""What a bundle stores of a network that reads frames: network, features and scaling, and how it answers for a clip."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ser_data.features.clip_frames import to_float16
from ser_data.features.extraction import compute
from ser_data.features.settings import settings_from_dict
from ser_data.scaler import ClipRange, Scaler, Scaling
from ser_models.architecture import Architecture, Networks
from ser_models.bundle import LogitsOf, tensors_under
from ser_models.frame_inputs import FrameInputs

_WEIGHTS = "network."


def describe(
    architecture: Architecture, inputs: FrameInputs, scaling: Scaling, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What :func:`restore` needs: values that JSON takes, and tensors."""
    description = {
        "architecture": architecture.to_dict(),
        "features": inputs.settings.to_dict(),
        "max_clip_seconds": inputs.max_clip_seconds,
        "max_frames": inputs.max_frames,
        "clip_range_blocks": scaling.blocks if isinstance(scaling, ClipRange) else None,
    }
    scaler = {}
    if isinstance(scaling, Scaler):
        scaler = {"scaler.mean": torch.from_numpy(scaling.mean), "scaler.std": torch.from_numpy(scaling.std)}
    tensors = {
        "columns": torch.from_numpy(inputs.columns),
        **scaler,
        **{_WEIGHTS + name: value for name, value in weights.items()},
    }
    return description, tensors


def restore(
    description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], num_classes: int, *, networks: Networks
) -> LogitsOf:
    """The function from samples (float32, 16 kHz) to logits (float32, ``(num_classes,)``) that was described.

    Raises:
        RuntimeError, KeyError, TypeError, ValueError, UserError: if the parts do not fit one another
    """
    architecture = Architecture(**description["architecture"])
    settings = settings_from_dict(description["features"])
    columns = tensors["columns"].numpy()
    scaling = _scaling(description, tensors)
    max_frames = description["max_frames"]
    if architecture.num_classes != num_classes:
        raise ValueError(f"the network has {architecture.num_classes} outputs for {num_classes} emotions")
    shapes = {name: tuple(tensors[name].shape) for name in ("columns", "scaler.mean", "scaler.std") if name in tensors}
    for name, shape in shapes.items():
        if shape != (architecture.dim,):
            raise ValueError(f"{name} has shape {shape}, the network reads {architecture.dim} columns")
    if columns.min() < 0 or columns.max() >= settings.dim:
        raise ValueError(f"columns lie in [{columns.min()}, {columns.max()}], the features have {settings.dim}")
    network = architecture.build(networks)
    network.load_state_dict(tensors_under(tensors, _WEIGHTS))
    network.eval()

    @torch.no_grad()
    def logits(samples: np.ndarray) -> np.ndarray:
        # Rounded as the cache rounds them, so that a bundle gives the numbers of the training's own validation.
        frames = to_float16(compute(samples, settings))[:max_frames, columns]
        inputs = torch.from_numpy(scaling.apply(frames))[None]
        made = network(inputs, torch.tensor([inputs.shape[1]]))
        return (made[0] if isinstance(made, tuple) else made)[0].numpy()  # an extra loss is of no interest here

    return logits


def _scaling(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Scaling:
    blocks = description.get("clip_range_blocks")  # bundles of earlier versions know no range
    if blocks is not None:
        return ClipRange(blocks)
    return Scaler(tensors["scaler.mean"].numpy(), tensors["scaler.std"].numpy())
