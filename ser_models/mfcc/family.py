"""Builds one trial of the MFCC family from a configuration."""

from collections.abc import Mapping

from ser_models.architecture import Architecture
from ser_models.config import ReadConfig
from ser_models.frame_data import cached_data
from ser_models.frame_trial import FrameFamily, FramePlan
from ser_models.mfcc.architecture import read_network, read_sizes
from ser_models.mfcc.inputs import read_inputs
from ser_models.mfcc.networks import NETWORKS
from ser_models.task import Task
from ser_models.training import TrainingSettings
from ser_models.trial import Trial

FAMILY = "mfcc"


def read_plan(config: Mapping[str, object], *, num_classes: int, max_epochs: int) -> FramePlan:
    """What a configuration asks for. Touches no data.

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
    """
    reader = ReadConfig(config, owner=FAMILY)
    network = read_network(reader)
    inputs = read_inputs(reader, network)
    sizes = read_sizes(reader, network)
    settings = TrainingSettings.read(reader, epochs=max_epochs)
    return FramePlan(
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
    return FrameFamily(FAMILY, NETWORKS).trial(plan, task, seed=seed, probe_clips=probe_clips)


def prepare_features(config: Mapping[str, object], task: Task, *, jobs: int) -> None:
    """Compute into the cache what :func:`build` would read for *config*, if it is not there yet.

    Args:
        config: as for :func:`build`
        task: as for :func:`build`
        jobs: threads to compute with
    """
    plan = read_plan(config, num_classes=len(task.emotions), max_epochs=1)
    cached_data(task, plan.inputs, batch_size=plan.settings.batch_size, jobs=jobs)
