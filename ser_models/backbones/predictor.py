"""A backbone's bundle: what is stored of a trained network, and how it answers for one clip."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ser_data.augment import SpecAugment
from ser_data.features.clip_frames import to_float16
from ser_data.features.extraction import compute
from ser_data.features.settings import LogMelSettings, settings_from_dict
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.images import ImageRecipe
from ser_models.backbones.loading import restore_backbone
from ser_models.backbones.model import BackboneClassifier
from ser_models.backbones.plan import BackbonePlan, HeadPlan
from ser_models.backbones.prefix import POOLED, boundaries, map_name
from ser_models.bundle import LogitsOf, tensors_under
from ser_models.training import TrainingSettings

_FROZEN, _TRAINED = "backbone.", "network."


def describe(
    backbone: SplitBackbone, plan: BackbonePlan, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What :func:`restore` needs: values that JSON takes, and tensors. The frozen stages are among them."""
    description = {
        "backbone": backbone.config_dict(),
        "features": plan.recipe.settings.to_dict(),
        "plan": dataclasses.asdict(plan),
    }
    frozen = {_FROZEN + name: backbone.state_dict()[name] for name in _frozen_names(backbone, plan)}
    return description, {**frozen, **{_TRAINED + name: value for name, value in weights.items()}}


def restore(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], num_classes: int) -> LogitsOf:
    """The function from samples (float32, 16 kHz) to logits (float32, ``(num_classes,)``) that was described.

    Raises:
        RuntimeError, KeyError, TypeError, ValueError, UserError: if the parts do not fit one another
    """
    settings = settings_from_dict(description["features"])
    if not isinstance(settings, LogMelSettings):
        raise ValueError(f"images are made of log-mel frames, not of {settings.kind}")
    plan = _plan(description["plan"], settings)
    backbone = restore_backbone(description["backbone"])
    if backbone.num_stages != plan.num_stages:
        raise ValueError(f"the backbone has {backbone.num_stages} stages, its plan {plan.num_stages}")
    frozen = tensors_under(tensors, _FROZEN)
    missing = sorted(set(_frozen_names(backbone, plan)) - set(frozen))
    if missing:
        raise ValueError(f"it lacks weights of the backbone: {', '.join(missing[:5])}")
    backbone.load_state_dict(frozen, strict=False)  # trained stages are the network's
    network = BackboneClassifier(backbone, plan, num_classes=num_classes)
    network.load_state_dict(tensors_under(tensors, _TRAINED))
    network.eval()

    @torch.no_grad()
    def logits(samples: np.ndarray) -> np.ndarray:
        # Rounded as the cache rounds them, so that a bundle gives the numbers of the training's own validation.
        inputs = plan.recipe.images([to_float16(compute(samples, settings))])
        if plan.start is None:
            inputs = boundaries(backbone, inputs, [POOLED])[POOLED][:, 0]
        elif isinstance(plan.start, int):
            name = map_name(plan.start)
            _, height, width = backbone.map_shapes(*plan.recipe.size)[plan.start]
            inputs = boundaries(backbone, inputs, [name])[name].unflatten(1, (height, width))
        return network(inputs)[0].numpy()

    return logits


def _frozen_names(backbone: SplitBackbone, plan: BackbonePlan) -> list[str]:
    """Weights that the network needs and does not hold itself."""
    replaced = list(backbone.stages[plan.first_trained :]) if plan.depth else []
    replaced += [backbone.stem] if plan.trains_stem else []
    held = {id(tensor) for part in replaced for tensor in part.state_dict(keep_vars=True).values()}
    return [name for name, tensor in backbone.state_dict(keep_vars=True).items() if id(tensor) not in held]


def _plan(values: Mapping[str, Any], settings: LogMelSettings) -> BackbonePlan:
    parts = dict(values)
    parts["recipe"] = ImageRecipe(**{**parts["recipe"], "settings": settings})
    for name, kind in (("masks", SpecAugment), ("head", HeadPlan), ("settings", TrainingSettings)):
        if parts[name] is not None:
            parts[name] = kind(**parts[name])
    return BackbonePlan(**parts)
