"""The training loop: one :class:`EpochResult` an epoch, and a state from which it goes on with the same numbers."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ser_data.errors import UserError
from ser_data.seeds import derive_seed
from ser_models import metrics
from ser_models.config import ReadConfig
from ser_models.data_parallel import ALONE, Group, SharedBatch, SharedSource
from ser_models.losses import WeightedCrossEntropy
from ser_models.messages import brief
from ser_models.micro_batches import BatchGradients, Output, TrainingBatch, split
from ser_models.mixup import mixed
from ser_models.optimisers import (
    OPTIMISERS,
    SCHEDULES,
    WARMUP_SHARE,
    ParameterGroup,
    build_optimiser,
    learning_rates,
    set_learning_rates,
    take_step,
    thaw,
)
from ser_models.precision import PrecisionError, autocast, resolve_precision

STATE_VERSION = 3


class DivergedError(RuntimeError):
    """A training whose loss is no longer a number."""


class CheckpointError(UserError):
    """A state that does not belong to this training."""


class BatchSource(Protocol):
    """Where batches come from; ``ser_data.batches.Batches`` is one."""

    def __len__(self) -> int:
        """Batches an epoch."""
        ...

    def epoch(self, generator: torch.Generator | None) -> Iterator[TrainingBatch]:
        """The batches of one epoch, in an order drawn from *generator*."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """What a training learns from and is judged on.

    Attributes:
        train: batches of the training clips
        validation: batches of the validation clips, in any order
        class_weights: float32 (num_classes,), of the training clips
        validation_clips: int64 (num_validation,), as in ``TrainingBatch.clips``
        validation_labels: int64 (num_validation,)
        validation_speakers: str (num_validation,)
    """

    train: BatchSource
    validation: BatchSource
    class_weights: torch.Tensor
    validation_clips: np.ndarray
    validation_labels: np.ndarray
    validation_speakers: np.ndarray


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained, whatever the network is.

    Attributes:
        epochs: length of the whole training; the schedule ends there, and begins where a parameter group thaws
        batch_size: clips a step (the batch source follows it; here it is part of what a state belongs to)
        optimiser: one of ``ser_models.optimisers.OPTIMISERS``
        learning_rate: peak, per step, of all parameters that no group claims
        weight_decay: likewise
        schedule: one of ``ser_models.optimisers.SCHEDULES``
        label_smoothing: share of each target spread over all classes, in [0, 1)
        class_weights: whether the loss weighs rare classes up
        clip_norm: largest norm of the gradient of all parameters together
        accumulation: micro-batches that a batch is split into, for networks whose batch exceeds the memory. The step is
            that of the whole batch, but for layers that look across the batch (batch normalisation)
        warmup_share: of the steps that a parameter group trains for, over which its learning rate rises
        mixup_alpha: of mixup's Beta distribution; 0 for no mixup
    """

    epochs: int
    batch_size: int
    optimiser: str
    learning_rate: float
    weight_decay: float
    schedule: str
    label_smoothing: float
    class_weights: bool
    clip_norm: float = 5.0
    accumulation: int = 1
    warmup_share: float = WARMUP_SHARE
    mixup_alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.accumulation < 1:
            raise ValueError(f"accumulation={self.accumulation} must be at least 1")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share={self.warmup_share} must be from 0 to 1")
        if self.mixup_alpha < 0:
            raise ValueError(f"mixup_alpha={self.mixup_alpha} must be at least 0")

    @classmethod
    def read(cls, config: ReadConfig, *, epochs: int) -> "TrainingSettings":
        """The settings that a configuration holds under the names of the attributes.

        Those with a default keep it: a family that reads them takes ``dataclasses.replace``.

        Raises:
            ConfigError: if one is missing or out of range
        """
        return cls(
            epochs=epochs,
            batch_size=config.integer("batch_size", low=1, high=4096),
            optimiser=config.choice("optimiser", OPTIMISERS),
            learning_rate=config.number("learning_rate", low=1e-6, high=1.0),
            weight_decay=config.number("weight_decay", low=0.0, high=1.0),
            schedule=config.choice("schedule", SCHEDULES),
            label_smoothing=config.number("label_smoothing", low=0.0, high=0.5),
            class_weights=config.flag("class_weights"),
        )


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: 1 for the first
        train_loss: mean over the training clips of the loss that was minimised (weights, smoothing and an extra loss
            included)
        val_loss: mean cross-entropy in nats over the validation clips, without weights and smoothing
        val_uar: unweighted average recall on the validation speakers, in [0, 1]
        val_accuracy: in [0, 1]
        val_macro_f1: in [0, 1]
        seconds: wall time of training and validation
        clips_per_second: training clips by wall time of training
        learning_rate: of the epoch's last step, of the first parameter group
        val_hits: right clips by validation speaker (sorted by name) and class
        learning_rates: of the epoch's last step, by parameter group; 0 for one that does not train
        extras: what else was measured, by name: ``val_roc_auc`` of two classes (of the second), and the mean extra loss
            over training and validation clips as ``train_NAME`` and ``val_NAME``, where the network has one
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_uar: float
    val_accuracy: float
    val_macro_f1: float
    seconds: float
    clips_per_second: float
    learning_rate: float
    val_hits: list[list[int]]
    learning_rates: dict[str, float] = field(default_factory=dict)
    extras: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as values that JSON takes."""
        return dataclasses.asdict(self)


class Trainer:
    """Trains one network, epoch by epoch.

    Epoch *e* draws from generators of its own, derived from the seed and *e* (batch order and augmentation, dropout),
    so the state between two epochs holds no generator, and a resumed training gives the numbers of one that was not.

    Args:
        model: ``model(*arguments of a batch) -> logits (batch, num_classes)``, or the logits and an extra loss (batch,)
            that is minimised beside theirs. It may keep frozen parts out of its state dict, and in evaluation mode by a
            ``train()`` of its own
        settings: how it is trained
        data: batches, class weights, and whose clips the validation ones are
        seed: the trial's seed
        device: torch's name of where to train
        groups: parameters with learning rates of their own; what they leave out trains with the settings' rate
        precision: one of ``ser_models.precision.PRECISIONS``, of the forward passes; weights, loss and optimiser are
            float32 always
        begin_epoch: called with the number of each epoch before it is trained, and a function of that number alone:
            it may change the model's ways and :attr:`data`
        extra_loss: what the model's extra loss is called, e.g. ``"reconstruction"``

    Attributes:
        data: as given
        precision: what that came to on the device, ``"fp32"`` or ``"bf16"``
        epoch: epochs done
        history: their results
        best_epoch: the first epoch with the highest ``val_uar``; 0 before the first
        best_weights: the model's state then, on the CPU
        val_speakers: the rows of ``val_hits``
        val_totals: int64 (speakers, num_classes), the clips that ``val_hits`` counts from
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        data: TrainingData,
        *,
        seed: int,
        device: str = "cpu",
        groups: Sequence[ParameterGroup] = (),
        precision: str = "fp32",
        begin_epoch: Callable[[int], None] | None = None,
        extra_loss: str = "extra_loss",
    ) -> None:
        self.model = model.to(device)
        self.settings = settings
        self.data = data
        self.seed = seed
        self.device = torch.device(device)
        self.precision = resolve_precision(precision, device)
        self.epoch = 0
        self.history: list[EpochResult] = []
        self.best_epoch = 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self._asked_precision = precision
        self._group = ALONE
        self._begin_epoch = begin_epoch
        self._extra_loss = extra_loss
        self._groups = _with_rest(groups, model, settings)
        self._optimiser = build_optimiser(settings.optimiser, self._groups)
        weights = data.class_weights.to(self.device) if settings.class_weights else None
        loss = WeightedCrossEntropy(weights, settings.label_smoothing)
        self._gradients = BatchGradients(loss, self._optimiser, device=self.device, parts=settings.accumulation)
        self._num_classes = len(data.class_weights)
        names, self._speaker_rows = np.unique(data.validation_speakers, return_inverse=True)
        self.val_speakers = tuple(str(name) for name in names)
        self.val_totals = self._count_by_speaker(np.ones(len(data.validation_labels), dtype=bool))
        self._validation_rows = {int(clip): row for row, clip in enumerate(data.validation_clips)}

    @property
    def accumulation(self) -> int:
        """Micro-batches that a batch is split into: the settings', or more since the memory ran out."""
        return self._gradients.parts

    def join(self, group: Group) -> None:
        """Train as one of several ranks from now on, all of which stand where this one stands.

        Results, best weights and the state are complete on the rank that leads alone. Apart from rounding and from what
        is drawn at random within a network (dropout, masks), the numbers are those of a training that is alone.

        Raises:
            ValueError: if the training looks across a batch's clips, or its batches cannot be shared
        """
        if group.share.ranks > 1:
            sources = (self.data.train, self.data.validation)
            if self.settings.mixup_alpha or not all(isinstance(source, SharedSource) for source in sources):
                raise ValueError("the batches of this training cannot be shared by several processes")
        self._group = group

    def follow(self, epoch: int) -> None:
        """Train an epoch beside the rank that leads.

        Raises:
            as :meth:`run`
        """
        if self._begin_epoch is not None:
            self._begin_epoch(epoch)
        self._train(epoch)
        self._validation_outputs(self._group)
        self.epoch = epoch

    def run(self) -> Iterator[EpochResult]:
        """Train from the epoch after :attr:`epoch` to the last, giving each epoch's result when it is done.

        Raises:
            DivergedError: if a loss is not finite, naming the epoch
            OutOfMemoryError: if a batch does not fit into the memory in smaller parts either
            PeerFailedError: another rank is gone
        """
        while self.epoch < self.settings.epochs:
            yield self._run_epoch(self.epoch + 1)

    def predict_validation(self) -> np.ndarray:
        """Probabilities by the model as it stands, in the order of the data's clips.

        Returns:
            float32 (num_validation, num_classes)
        """
        logits, _ = self._validation_outputs()
        return torch.softmax(logits, dim=1).numpy()

    def predict_with_best_weights(self) -> np.ndarray:
        """Probabilities by the best epoch's weights, in the order of the data's clips. Ends the training.

        Returns:
            float32 (num_validation, num_classes)

        Raises:
            ValueError: before the first epoch
        """
        if not self.best_weights:
            raise ValueError("no epoch was trained yet: there is no best one to predict with")
        if self._begin_epoch is not None:
            self._begin_epoch(self.best_epoch)
        self.model.load_state_dict(self.best_weights)
        return self.predict_validation()

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs, as plain values and tensors: ``torch.load(weights_only=True)`` reads it.

        The tensors are the live ones: save the state before the next epoch.
        """
        return {
            **self._identity(),
            "accumulation": self.accumulation,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "history": [result.to_dict() for result in self.history],
            "best_epoch": self.best_epoch,
            "best_weights": dict(self.best_weights),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where :meth:`state` was taken.

        Raises:
            CheckpointError: if the state is of another version, seed, setting, precision or network
        """
        precision = self._precision_of(state)
        for name, value in {**self._identity(), "precision": precision}.items():
            if state.get(name) != value:
                raise CheckpointError(
                    f"The checkpoint has {name} {state.get(name)!r}; this trial has {value!r}. A checkpoint continues "
                    "only the trial that wrote it. Remove the checkpoint to train from the first epoch."
                )
        try:
            self.model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this network: {brief(error)}. A checkpoint continues only the trial that "
                "wrote it. Remove the checkpoint to train from the first epoch."
            ) from error
        self.precision = precision
        self._gradients.parts = state["accumulation"]
        self.epoch = state["epoch"]
        self.history = [EpochResult(**result) for result in state["history"]]
        self.best_epoch = state["best_epoch"]
        self.best_weights = {name: tensor.detach().cpu() for name, tensor in state["best_weights"].items()}

    def _precision_of(self, state: Mapping[str, Any]) -> str:
        """The state's, if this training may have any and the device can: begun elsewhere, it goes on as it began."""
        if self._asked_precision != "auto" or state.get("precision") not in ("fp32", "bf16"):
            return self.precision
        try:
            return resolve_precision(state["precision"], str(self.device))
        except PrecisionError:
            return self.precision

    def _identity(self) -> dict[str, Any]:
        """What a state must share with a training that goes on from it."""
        return {
            "version": STATE_VERSION,
            "seed": self.seed,
            "settings": dataclasses.asdict(self.settings),
            "precision": self.precision,
            "groups": {
                some.name: [some.learning_rate, some.weight_decay, some.first_epoch, some.last_epoch]
                for some in self._groups
            },
        }

    def _run_epoch(self, epoch: int) -> EpochResult:
        started = time.perf_counter()
        self._group.begin_epoch(epoch)
        if self._begin_epoch is not None:
            self._begin_epoch(epoch)
        train_loss, train_extra, num_clips = self._train(epoch)
        trained = time.perf_counter()
        logits, val_extra = self._validation_outputs(self._group)
        labels = torch.from_numpy(self.data.validation_labels)
        val_loss = float(functional.cross_entropy(logits, labels))
        if not np.isfinite(val_loss):
            raise DivergedError(f"Epoch {epoch}: the validation loss is {val_loss}.")
        if val_extra is not None and not np.isfinite(val_extra):
            raise DivergedError(f"Epoch {epoch}: the validation {self._extra_loss} is {val_extra}.")
        predictions = logits.argmax(dim=1).numpy()
        matrix = metrics.confusion(self.data.validation_labels, predictions, self._num_classes)
        rates = learning_rates(self._optimiser, epoch)
        result = EpochResult(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            val_uar=metrics.uar(matrix),
            val_accuracy=metrics.accuracy(matrix),
            val_macro_f1=metrics.macro_f1(matrix),
            seconds=time.perf_counter() - started,
            clips_per_second=num_clips / (trained - started),
            learning_rate=next(iter(rates.values())),
            val_hits=self._count_by_speaker(predictions == self.data.validation_labels).tolist(),
            learning_rates=rates,
            extras=self._extras(logits, train_extra, val_extra),
        )
        self.epoch = epoch
        self.history.append(result)
        if self.best_epoch == 0 or result.val_uar > self.history[self.best_epoch - 1].val_uar:
            self.best_epoch = epoch
            self.best_weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return result

    def _extras(self, logits: torch.Tensor, train_extra: float | None, val_extra: float | None) -> dict[str, float]:
        named = {f"train_{self._extra_loss}": train_extra, f"val_{self._extra_loss}": val_extra}
        extras = {name: value for name, value in named.items() if value is not None}
        if self._num_classes == 2:
            extras["val_roc_auc"] = metrics.roc_auc(
                self.data.validation_labels, (logits[:, 1] - logits[:, 0]).double().numpy()
            )
        return {name: value for name, value in extras.items() if np.isfinite(value)}

    def _train(self, epoch: int) -> tuple[float, float | None, int]:
        """One pass over the training clips: mean loss, mean of the extra loss in it, and number of clips."""
        thaw(self._optimiser, epoch)
        self.model.train()
        settings, source = self.settings, self.data.train
        step = (epoch - 1) * len(source)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "batches", epoch))
        loss_sum, num_clips = torch.zeros((), device=self.device), 0
        extra_sum: torch.Tensor | None = None
        rank = self._group.share.rank
        # Dropout and mixup draw from torch's global generator: seeded here for this epoch, and put back afterwards.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self.seed, "dropout", epoch, *([rank] if rank else [])))
            for shared in self._shared_batches(source, generator, self._group):
                set_learning_rates(
                    self._optimiser,
                    settings.schedule,
                    step,
                    epochs=settings.epochs,
                    steps_an_epoch=len(source),
                    warmup_share=settings.warmup_share,
                )
                loss, extra = self._step(shared)
                loss_sum += loss * len(shared.labels)
                if extra is not None:
                    extra_sum = extra * len(shared.labels) + (0.0 if extra_sum is None else extra_sum)
                num_clips += len(shared.labels)
                step += 1
        mean_loss = float(self._group.sum(loss_sum)) / num_clips
        if not np.isfinite(mean_loss):
            raise DivergedError(f"Epoch {epoch}: the training loss is {mean_loss}.")
        return mean_loss, None if extra_sum is None else float(self._group.sum(extra_sum)) / num_clips, num_clips

    @staticmethod
    def _shared_batches(source: BatchSource, generator: torch.Generator | None, group: Group) -> Iterator[SharedBatch]:
        """The batches of an epoch, of each what is this rank's."""
        if group.share.ranks > 1:
            assert isinstance(source, SharedSource)
            yield from source.shares(generator, group.share)
        else:
            for batch in source.epoch(generator):
                yield SharedBatch(batch, batch.labels)

    def _step(self, shared: SharedBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One step of the optimiser; gives the batch's loss and the extra loss in it, float32 (), as far as ours."""
        with self._gradients.explaining_out_of_memory(shared.own):
            if self.settings.mixup_alpha:
                batch = mixed(shared.own, self.settings.mixup_alpha)
                losses = self._gradients.leave(batch, self._output, targets=batch.targets)
            else:
                losses = self._gradients.leave(shared.own, self._output, whole=shared.labels, weight=shared.weight)
            trained = [parameter for group in self._optimiser.param_groups for parameter in group["params"]]
            self._group.sum_gradients(trained)
            nn.utils.clip_grad_norm_(trained, self.settings.clip_norm)
            take_step(self._optimiser)
        return losses

    def _output(self, arguments: Sequence[torch.Tensor]) -> Output:
        with autocast(self.precision, self.device):
            moved = [argument.to(self.device, non_blocking=self.device.type == "cuda") for argument in arguments]
            made = self.model(*moved)
        logits, extra = made if isinstance(made, tuple) else (made, None)
        return Output(logits.float(), None if extra is None else extra.float())

    @torch.no_grad()
    def _validation_outputs(self, group: Group = ALONE) -> tuple[torch.Tensor, float | None]:
        """Logits in the data's order of clips, float32 (num_validation, num_classes) on the CPU; mean extra loss.

        The ranks of *group* share the work; several have no extra loss.
        """
        self.model.eval()
        missing = float("nan") if group.share.ranks == 1 else 0.0  # of which the sum is made
        logits = torch.full((len(self._validation_rows), self._num_classes), missing)
        extras: list[torch.Tensor] = []
        for shared in self._shared_batches(self.data.validation, None, group):
            if not shared.weight:
                continue
            batch = shared.own
            rows = [self._validation_rows[clip] for clip in batch.clips.tolist()]
            with self._gradients.explaining_out_of_memory(batch):
                outputs = [self._output(part) for part in split(batch.arguments, self.accumulation)]
            logits[rows] = torch.cat([output.logits.cpu() for output in outputs])
            extras += [output.extra_loss.cpu() for output in outputs if output.extra_loss is not None]
        return group.sum(logits), float(torch.cat(extras).mean()) if extras else None

    def _count_by_speaker(self, counted: np.ndarray) -> np.ndarray:
        shape = len(self.val_speakers), self._num_classes
        return metrics.count_by_speaker(self._speaker_rows, self.data.validation_labels, counted, shape=shape)


def _with_rest(groups: Sequence[ParameterGroup], model: nn.Module, settings: TrainingSettings) -> list[ParameterGroup]:
    claimed = {id(parameter) for group in groups for parameter in group.parameters}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in claimed]
    return [*groups, ParameterGroup("rest", rest, settings.learning_rate, settings.weight_decay)]
