"""Builds one trial of the mel family from a configuration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ser_models.architecture import Architecture
from ser_models.config import ReadConfig
from ser_models.frame_trial import FrameFamily, FramePlan
from ser_models.mel.architecture import AUTOENCODER, NETWORKS, read_network, read_sizes
from ser_models.mel.autoencoder import EXTRA_LOSS, FINE_TUNE, FROZEN, MelAutoencoder, TwoPhases, parameter_groups
from ser_models.mel.inputs import read_image, read_inputs
from ser_models.mel.reconstructions import draw_reconstructions
from ser_models.task import Task
from ser_models.training import TrainingSettings
from ser_models.trial import Trial

FAMILY = "mel"
_FAMILY = FrameFamily(FAMILY, NETWORKS)
_NO_CLIPPING = 1e9


def read_plan(config: Mapping[str, object], *, num_classes: int, max_epochs: int) -> FramePlan:
    """What a configuration asks for. Touches no data.

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read, or sizes that do not fit together
    """
    reader = ReadConfig(config, owner=FAMILY)
    network = read_network(reader)
    inputs = read_image(reader) if network == AUTOENCODER else read_inputs(reader)
    sizes = read_sizes(reader, network, inputs)
    settings = TrainingSettings.read(reader, epochs=max_epochs)
    if network == AUTOENCODER:
        _read_phases(reader)
        # one norm over all gradients would let the classifier's labels scale the steps of the autoencoder
        settings = replace(settings, clip_norm=_NO_CLIPPING)
    else:
        settings = replace(settings, mixup_alpha=reader.number("mixup_alpha", low=0.0, high=2.0))
    if "epochs" in config:  # the trial's own length, which the search has made max_epochs of
        reader.integer("epochs", low=1, high=10_000)
    num_mels = inputs.settings.dim if network == AUTOENCODER else len(inputs.columns)
    return FramePlan(
        inputs=inputs,
        architecture=Architecture(network, dim=num_mels, num_classes=num_classes, sizes=sizes),
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
    if plan.architecture.network != AUTOENCODER:
        return _FAMILY.trial(plan, task, seed=seed, probe_clips=probe_clips)
    return _autoencoder_trial(plan, task, seed=seed, max_epochs=max_epochs, probe_clips=probe_clips)


def _autoencoder_trial(plan: FramePlan, task: Task, *, seed: int, max_epochs: int, probe_clips: int | None) -> Trial:
    reconstruction_epochs = min(int(plan.read["reconstruction_epochs"]), max_epochs)  # type: ignore[arg-type]  # read as whole
    then, head_lr = str(plan.read["then"]), float(plan.read["head_lr"])  # type: ignore[arg-type]  # read as a number
    phases: list[TwoPhases] = []

    def training(network: nn.Module) -> dict[str, Any]:
        assert isinstance(network, MelAutoencoder)
        phases.append(TwoPhases(network, reconstruction_epochs=reconstruction_epochs, then=then))
        groups = parameter_groups(
            network, plan.settings, head_lr=head_lr, reconstruction_epochs=reconstruction_epochs, then=then
        )
        return {"groups": groups, "begin_epoch": phases[0].begin_epoch, "extra_loss": EXTRA_LOSS}

    trial = _FAMILY.trial(plan, task, seed=seed, probe_clips=probe_clips, training=training)
    phases[0].trainer = trial.trainer
    return replace(trial, write_bundle=draw_reconstructions(trial.write_bundle, trial.trainer))


def _read_phases(reader: ReadConfig) -> None:
    reader.choice("then", (FROZEN, FINE_TUNE))
    reader.integer("reconstruction_epochs", low=1, high=10_000)
    reader.number("head_lr", low=1e-6, high=1.0)
