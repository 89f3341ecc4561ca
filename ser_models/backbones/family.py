"""Builds one trial of an image backbone from a configuration, and fills the prefix cache before the first one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ser_data.seeds import derive_seed
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.data import (
    VectorNorm,
    backbone_cost,
    backbone_on_device,
    cached_data,
    fill_cache,
    probe_data,
    stream_names,
)
from ser_models.backbones.images import ImageRecipe
from ser_models.backbones.model import BackboneClassifier
from ser_models.backbones.plan import BackbonePlan, check_size, read_plan
from ser_models.backbones.predictor import describe
from ser_models.backbones.prefix import POOLED, stream_shape
from ser_models.backbones.probe import linear_probe
from ser_models.bundle import save_bundle
from ser_models.fine_tuning import facts_of, head_and_layers, num_numbers
from ser_models.optimisers import ParameterGroup
from ser_models.pretrained.source import source_from_spec
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import Trainer
from ser_models.trial import Baseline, Trial

FAMILY = "mel_backbones"


def build(
    config: Mapping[str, object], task: Task, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> Trial:
    """A trial that is ready to train.

    The backbone, the corpus and the mapped prefixes stay open for the next trial of this process.

    Args:
        config: the searched parameters, every one of which is read
        task: what all trials share; its ``encoder`` names the backbone
        seed: the trial's seed: initialisation, batch order, masks, dropout
        max_epochs: length of the whole training, at whose end the schedule ends
        probe_clips: build on this many training and validation clips each, past the caches; for a check of the space

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read, or images that are too small
        UserError: if the corpus, the split, the backbone or a cache cannot be used
    """
    backbone = backbone_on_device(task)
    plan = _plan(config, task, backbone, max_epochs)
    data = cached_data(task, plan) if probe_clips is None else probe_data(task, plan, num_clips=probe_clips)
    model = initialised(backbone, plan, data.norm, num_classes=len(task.emotions), seed=seed)
    trainer = Trainer(
        model,
        plan.settings,
        data.training,
        seed=seed,
        device=task.device,
        groups=parameter_groups(model, plan),
        precision=task.precision,
    )
    return Trial(
        trainer=trainer,
        num_parameters=num_numbers(model.head) + num_numbers(backbone.model),
        read_parameters=plan.read,
        write_bundle=partial(_write_bundle, backbone, plan, task),
        facts=facts_of(
            trainer, plan.boundary, cost=None if probe_clips is not None else backbone_cost(task, plan.recipe)
        ),
    )


def prepare(
    configs: Sequence[Mapping[str, object]], task: Task, *, progress: Callable[[str, int, int], None]
) -> list[Baseline]:
    """Fill the node's cache with all that *configs* read, in one pass for each kind of image; train the linear probe.

    Args:
        configs: as for :func:`build`
        task: as for :func:`build`
        progress: called with what is done, clips done and clips in all

    Returns:
        the probe, on the first kind of image
    """
    wanted = _read_by(configs, task, backbone_on_device(task))
    for number, (recipe, names) in enumerate(wanted.items(), start=1):
        progress("log-mel frames", 0, 1)  # where they are not cached
        told = "frozen stages" + (f" (images {number} of {len(wanted)})" if len(wanted) > 1 else "")
        fill_cache(task, recipe, list(names), jobs=torch.get_num_threads(), progress=partial(progress, told))
    progress("linear probe", 0, 1)
    return [linear_probe(task, next(iter(wanted)))]


def cached_bytes(configs: Sequence[Mapping[str, object]], task: Task) -> int:
    """What :func:`prepare` leaves in the cache of frozen stages for *configs*, in bytes, without the files' heads."""
    backbone = backbone_on_device(task)
    bytes_of_clip = 0
    for recipe, names in _read_by(configs, task, backbone).items():
        for name in names:
            rows, columns = stream_shape(backbone, recipe, name)
            bytes_of_clip += rows * columns * (2 if name != POOLED and task.cache_precision == "bf16" else 4)
    return bytes_of_clip * len(open_task(task).corpus.waveforms)


def _read_by(
    configs: Sequence[Mapping[str, object]], task: Task, backbone: SplitBackbone
) -> dict[ImageRecipe, dict[str, None]]:
    """The prefixes that *configs* read, by the images that they are of."""
    wanted: dict[ImageRecipe, dict[str, None]] = {}
    for config in configs:
        plan = _plan(config, task, backbone, max_epochs=1)
        wanted.setdefault(plan.recipe, {}).update(dict.fromkeys(stream_names(plan)))
    return wanted


def initialised(
    backbone: SplitBackbone, plan: BackbonePlan, norm: VectorNorm, *, num_classes: int, seed: int
) -> BackboneClassifier:
    """The network of a plan, its new weights drawn from *seed*."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        model = BackboneClassifier(backbone, plan, num_classes=num_classes)
    model.head.shift.copy_(norm.shift)
    model.head.scale.copy_(norm.scale)
    return model


def parameter_groups(model: BackboneClassifier, plan: BackbonePlan) -> list[ParameterGroup]:
    """The head at its rate, and each trained stage at its own."""
    return head_and_layers(
        model.head,
        model.backbone_layers(),
        plan.settings,
        backbone_lr=plan.backbone_lr,
        layer_decay=plan.layer_decay,
    )


def _plan(config: Mapping[str, object], task: Task, backbone: SplitBackbone, max_epochs: int) -> BackbonePlan:
    plan = read_plan(config, num_stages=backbone.num_stages, max_epochs=max_epochs)
    label = source_from_spec(task.encoder).label
    check_size(plan.recipe, total_stride=backbone.total_stride, label=f"backbone {label}")
    return plan


def _write_bundle(
    backbone: SplitBackbone,
    plan: BackbonePlan,
    task: Task,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    description, tensors = describe(backbone, plan, weights)
    save_bundle(
        folder,
        family=FAMILY,
        emotions=task.emotions,
        description=description,
        tensors=tensors,
        provenance=provenance,
    )
