"""Builds one trial of a pretrained encoder from a configuration, and fills the prefix cache before the first one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ser_data.seeds import derive_seed
from ser_models.bundle import save_bundle
from ser_models.encoders.architectures import SplitEncoder
from ser_models.encoders.data import (
    PooledNorm,
    cached_data,
    encoder_cost,
    encoder_on_device,
    fill_cache,
    prefix_source,
    probe_data,
    stream_names,
)
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import EncoderPlan, read_plan
from ser_models.encoders.predictor import describe
from ser_models.encoders.probe import linear_probe
from ser_models.fine_tuning import facts_of, head_and_layers, num_numbers
from ser_models.optimisers import ParameterGroup
from ser_models.prefix_cache import bytes_of
from ser_models.task import Task
from ser_models.training import Trainer
from ser_models.trial import Baseline, Trial

FAMILY = "encoders"


def build(
    config: Mapping[str, object], task: Task, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> Trial:
    """A trial that is ready to train.

    The encoder, the corpus and the mapped prefixes stay open for the next trial of this process.

    Args:
        config: the searched parameters, every one of which is read
        task: what all trials share
        seed: the trial's seed: initialisation, batch order, masks, dropout
        max_epochs: length of the whole training, at whose end the schedule ends
        probe_clips: build on this many training and validation clips each, past the cache; for a check of the space

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
        UserError: if the corpus, the split, the encoder or the cache cannot be used
    """
    encoder = encoder_on_device(task)
    plan = read_plan(config, num_layers=encoder.num_layers, max_epochs=max_epochs)
    data = cached_data(task, plan) if probe_clips is None else probe_data(task, plan, num_clips=probe_clips)
    model = initialised(encoder, plan, data.norm, num_classes=len(task.emotions), seed=seed)

    def begin_epoch(epoch: int) -> None:
        """Until the layers thaw they are as fixed as those below: an epoch reads what they give, pooled, once."""
        model.thawed = epoch >= plan.first_epoch
        trainer.data = data.training if model.thawed or data.before_thaw is None else data.before_thaw

    trainer = Trainer(
        model,
        plan.settings,
        data.training,
        seed=seed,
        device=task.device,
        groups=parameter_groups(model, plan),
        precision=task.precision,
        begin_epoch=None if data.before_thaw is None else begin_epoch,
    )
    return Trial(
        trainer=trainer,
        num_parameters=num_numbers(model.head) + num_numbers(encoder.model),
        read_parameters=plan.read,
        write_bundle=partial(_write_bundle, encoder, plan, task),
        facts=facts_of(
            trainer, plan.boundary, cost=None if probe_clips is not None else encoder_cost(task, plan.max_clip_seconds)
        ),
    )


def prepare(
    configs: Sequence[Mapping[str, object]], task: Task, *, progress: Callable[[str, int, int], None]
) -> list[Baseline]:
    """Fill the node's cache with all that *configs* read, in one pass for each duration, and train the linear probe.

    Args:
        configs: as for :func:`build`
        task: as for :func:`build`
        progress: called with what is done, clips done and clips in all

    Returns:
        the probe, on the longest of the durations
    """
    together, durations = _read_by(configs, encoder_on_device(task).num_layers)
    for seconds in durations:  # the longest pass serves the others
        fill_cache(task, together, seconds, partial(progress, "frozen layers"))
    progress("linear probe", 0, 1)
    return [linear_probe(task, max_clip_seconds=durations[0])]


def cached_bytes(configs: Sequence[Mapping[str, object]], task: Task) -> int:
    """What :func:`prepare` leaves in the node's cache for *configs*, in bytes."""
    source = prefix_source(task)
    together, durations = _read_by(configs, source.encoder.num_layers)
    return bytes_of(
        stream for seconds in durations for stream in source.streams(together, max_clip_seconds=seconds)
    )  # fmt: skip


def _read_by(configs: Sequence[Mapping[str, object]], num_layers: int) -> tuple[list[str], list[float]]:
    """The prefixes that *configs* read, all of them under each of the durations, longest first."""
    plans = [read_plan(config, num_layers=num_layers, max_epochs=1) for config in configs]
    names = dict.fromkeys(name for plan in plans for name in stream_names(plan))
    return list(names), sorted({plan.max_clip_seconds for plan in plans}, reverse=True)


def initialised(
    encoder: SplitEncoder, plan: EncoderPlan, norm: PooledNorm | None, *, num_classes: int, seed: int
) -> EncoderClassifier:
    """The network of a plan, its new weights drawn from *seed*."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initialisation"))
        model = EncoderClassifier(encoder, plan, num_classes=num_classes)
    if norm is not None:
        model.head.shift.copy_(norm.shift)
        model.head.scale.copy_(norm.scale)
    return model


def parameter_groups(model: EncoderClassifier, plan: EncoderPlan) -> list[ParameterGroup]:
    """The head at its rate, and each trained layer at its own."""
    return head_and_layers(
        model.head,
        model.backbone_layers(),
        plan.settings,
        backbone_lr=plan.backbone_lr,
        layer_decay=plan.layer_decay,
        first_epoch=plan.first_epoch,
    )


def _write_bundle(
    encoder: SplitEncoder,
    plan: EncoderPlan,
    task: Task,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    description, tensors = describe(encoder, plan, weights)
    save_bundle(
        folder,
        family=FAMILY,
        emotions=task.emotions,
        description=description,
        tensors=tensors,
        provenance=provenance,
    )
