"""An encoder's bundle: what is stored of a trained network, and how it answers for one clip."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ser_data.waveforms import SAMPLE_RATE
from ser_models.bundle import LogitsOf, tensors_under
from ser_models.encoders.architectures import SplitEncoder
from ser_models.encoders.loading import restore_encoder
from ser_models.encoders.masks import SpanMasks
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import EncoderPlan, HeadPlan, Lora
from ser_models.encoders.prefix import boundaries, boundary_name, pooled_columns
from ser_models.training import TrainingSettings

_FROZEN, _TRAINED = "encoder.", "network."


def describe(
    encoder: SplitEncoder, plan: EncoderPlan, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What :func:`restore` needs: values that JSON takes, and tensors. The frozen layers are among them."""
    description = {
        "encoder": encoder.config_dict(),
        "features": encoder.features_dict(),
        "plan": dataclasses.asdict(plan),
    }
    frozen = {_FROZEN + name: encoder.state_dict()[name] for name in _frozen_names(encoder, plan)}
    return description, {**frozen, **{_TRAINED + name: value for name, value in weights.items()}}


def restore(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], num_classes: int) -> LogitsOf:
    """The function from samples (float32, 16 kHz) to logits (float32, ``(num_classes,)``) that was described.

    Raises:
        RuntimeError, KeyError, TypeError, ValueError, UserError: if the parts do not fit one another
    """
    plan = _plan(description["plan"])
    encoder = restore_encoder(description["encoder"], description["features"])
    if encoder.num_layers != plan.num_layers:
        raise ValueError(f"the encoder has {encoder.num_layers} layers, its plan {plan.num_layers}")
    frozen = tensors_under(tensors, _FROZEN)
    missing = sorted(set(_frozen_names(encoder, plan)) - set(frozen))
    if missing:
        raise ValueError(f"it lacks weights of the encoder: {', '.join(missing[:5])}")
    encoder.load_state_dict(frozen, strict=False)  # trained layers are the network's
    network = EncoderClassifier(encoder, plan, num_classes=num_classes)
    network.load_state_dict(tensors_under(tensors, _TRAINED))
    network.eval()
    max_samples = round(plan.max_clip_seconds * SAMPLE_RATE)
    starts = [] if plan.start is None else [boundary_name(plan.start)]
    nothing = torch.zeros(1, 0)

    @torch.no_grad()
    def logits(samples: np.ndarray) -> np.ndarray:
        features = encoder.features(samples[:max_samples])[None]
        frozen = [boundary_name(state) for state in plan.frozen_states] if plan.reads_pooled else []
        made = boundaries(encoder, features, [*frozen, *starts])
        frames = made[starts[0]] if starts else nothing
        pooled = nothing
        if frozen:
            pooled = pooled_columns([made[name] for name in frozen])
            if plan.head.pooling != "statistics":
                pooled = pooled[:, : len(frozen) * encoder.hidden_size]
        return network(frames, torch.tensor([max(1, frames.shape[1])]), pooled)[0].numpy()

    return logits


def _frozen_names(encoder: SplitEncoder, plan: EncoderPlan) -> list[str]:
    """Weights that the network needs and does not hold itself: all but those of trained layers and their norm.

    WavLM's first layer is among the trained ones only at full depth, and then makes the bias of all.
    """
    replaced = {
        id(parameter) for layer in list(encoder.layers)[plan.first_trained :] for parameter in layer.parameters()
    }
    if plan.depth and encoder.final_norm is not None:
        replaced |= {id(parameter) for parameter in encoder.final_norm.parameters()}
    tensors = encoder.state_dict(keep_vars=True)
    return [name for name, tensor in tensors.items() if id(tensor) not in replaced]


def _plan(values: Mapping[str, Any]) -> EncoderPlan:
    parts = dict(values)
    for name, kind in (("masks", SpanMasks), ("head", HeadPlan), ("lora", Lora), ("settings", TrainingSettings)):
        if parts[name] is not None:
            parts[name] = kind(**parts[name])
    return EncoderPlan(**parts)
