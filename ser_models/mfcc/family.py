"""Builds one trial of the MFCC family from a configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ser_models.bundle import save_bundle
from ser_models.config import ReadConfig, Value
from ser_models.frame_data import cached_data, probe_data
from ser_models.frame_inputs import FrameInputs
from ser_models.mfcc.architecture import Architecture, read_network, read_sizes
from ser_models.mfcc.inputs import read_inputs
from ser_models.mfcc.predictor import describe
from ser_models.task import Task
from ser_models.training import Trainer, TrainingSettings
from ser_models.trial import Trial

if TYPE_CHECKING:
    from ser_data.scaler import Scaler

FAMILY = "mfcc"


@dataclass(frozen=True, eq=False)
class Plan:
    """A configuration that was read to its end.

    Attributes:
        inputs: features and augmentation
        architecture: the network
        settings: how it is trained
        read: the parameters, by name
    """

    inputs: FrameInputs
    architecture: Architecture
    settings: TrainingSettings
    read: Mapping[str, Value]


def read_plan(config: Mapping[str, object], *, num_classes: int, max_epochs: int) -> Plan:
    """What a configuration asks for. Touches no data.

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
    """
    reader = ReadConfig(config, owner=FAMILY)
    network = read_network(reader)
    inputs = read_inputs(reader, network)
    sizes = read_sizes(reader, network)
    settings = TrainingSettings.read(reader, epochs=max_epochs)
    return Plan(
        inputs=inputs,
        architecture=Architecture(network, dim=len(inputs.columns), num_classes=num_classes, sizes=sizes),
        settings=settings,
        read=dict(reader.finish()),
    )


def build(
    config: Mapping[str, object], task: Task, *, seed: int, max_epochs: int, probe_clips: int | None = None
) -> Trial:
    """A trial that is ready to train.

    Corpus, split and features stay open for the next trial of this process.

    Args:
        config: the searched parameters, every one of which is read
        task: what all trials share
        seed: the trial's seed: initialisation, batch order, masks, dropout
        max_epochs: length of the whole training, at whose end the schedule ends
        probe_clips: build on this many training and validation clips each, past the cache; for a check of the space

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
        UserError: if the corpus, the split or the cache cannot be used
    """
    plan = read_plan(config, num_classes=len(task.emotions), max_epochs=max_epochs)
    batch_size = plan.settings.batch_size
    if probe_clips is None:
        data, scaler = cached_data(task, plan.inputs, batch_size=batch_size)
    else:
        data, scaler = probe_data(task, plan.inputs, batch_size=batch_size, num_clips=probe_clips)
    trainer = Trainer(plan.architecture.build(seed=seed), plan.settings, data, seed=seed, device=task.device)
    return Trial(
        trainer=trainer,
        num_parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        read_parameters=plan.read,
        write_bundle=partial(_write_bundle, plan, scaler, task),
    )


def prepare_features(config: Mapping[str, object], task: Task, *, jobs: int) -> None:
    """Compute into the cache what :func:`build` would read for *config*, if it is not there yet.

    Args:
        config: as for :func:`build`
        task: as for :func:`build`
        jobs: threads to compute with
    """
    plan = read_plan(config, num_classes=len(task.emotions), max_epochs=1)
    cached_data(task, plan.inputs, batch_size=plan.settings.batch_size, jobs=jobs)


def _write_bundle(
    plan: Plan,
    scaler: "Scaler",
    task: Task,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    provenance: Mapping[str, Any],
) -> None:
    description, tensors = describe(plan.architecture, plan.inputs, scaler, weights)
    save_bundle(
        folder,
        family=FAMILY,
        emotions=task.emotions,
        description=description,
        tensors=tensors,
        provenance=provenance,
    )
