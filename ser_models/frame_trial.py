"""Builds one trial of a network that reads frames, whatever the family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ser_data.scaler import Scaling
from ser_models.architecture import Architecture, Networks
from ser_models.bundle import save_bundle
from ser_models.config import Value
from ser_models.frame_data import cached_data, probe_data
from ser_models.frame_inputs import FrameInputs
from ser_models.frame_predictor import describe
from ser_models.inference_cost import CLIP_SECONDS, gmacs_per_second
from ser_models.task import Task
from ser_models.training import Trainer, TrainingSettings
from ser_models.trial import COST, Trial


@dataclass(frozen=True, eq=False)
class FramePlan:
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


@dataclass(frozen=True)
class FrameFamily:
    """What one family of networks on frames has of its own.

    Attributes:
        name: as bundles call it
        networks: by name
    """

    name: str
    networks: Networks

    def trial(
        self,
        plan: FramePlan,
        task: Task,
        *,
        seed: int,
        probe_clips: int | None,
        precision: str = "fp32",
        training: Callable[[nn.Module], Mapping[str, Any]] | None = None,
    ) -> Trial:
        """A trial that is ready to train. Corpus, split and features stay open for the next trial of this process.

        Args:
            plan: what it is
            task: what all trials share
            seed: the trial's seed: initialisation, batch order, masks, dropout
            probe_clips: build on this many training and validation clips each, past the cache; for a check of the space
            precision: of the arithmetic, one of ``ser_models.precision.PRECISIONS``
            training: more arguments of the `Trainer`, for the network that it is given

        Raises:
            UserError: if the corpus, the split or the cache cannot be used
        """
        batch_size = plan.settings.batch_size
        if probe_clips is None:
            data, scaling = cached_data(task, plan.inputs, batch_size=batch_size)
        else:
            data, scaling = probe_data(task, plan.inputs, batch_size=batch_size, num_clips=probe_clips)
        network = plan.architecture.build(self.networks, seed=seed)
        facts = {COST: _cost(network, plan)} if probe_clips is None else {}
        more = training(network) if training is not None else {}
        trainer = Trainer(network, plan.settings, data, seed=seed, device=task.device, precision=precision, **more)
        return Trial(
            trainer=trainer,
            num_parameters=sum(parameter.numel() for parameter in network.parameters()),
            read_parameters=plan.read,
            write_bundle=partial(self._write_bundle, plan, scaling, task),
            facts=facts,
        )

    def _write_bundle(
        self,
        plan: FramePlan,
        scaling: Scaling,
        task: Task,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        provenance: Mapping[str, Any],
    ) -> None:
        description, tensors = describe(plan.architecture, plan.inputs, scaling, weights)
        save_bundle(
            folder,
            family=self.name,
            emotions=task.emotions,
            description=description,
            tensors=tensors,
            provenance=provenance,
        )


def _cost(network: nn.Module, plan: FramePlan) -> float:
    """Of a network that was not trained yet, on the CPU; leaves it ready to train."""
    inputs = plan.inputs
    seconds = min(CLIP_SECONDS, inputs.max_clip_seconds)
    num_frames = 1 if inputs.max_frames is None else inputs.settings.frames_in(seconds)
    frames = torch.zeros(1, num_frames, plan.architecture.dim)
    network.eval()
    cost = gmacs_per_second(lambda: network(frames, torch.tensor([num_frames])))
    network.train()
    return cost
