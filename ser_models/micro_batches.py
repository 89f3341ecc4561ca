"""Batches in parts, for what a device's memory does not hold at once, and what to do where it runs out."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from ser_data.errors import UserError
from ser_models.losses import WeightedCrossEntropy
from ser_models.messages import brief

_SPLIT_AFTER_OUT_OF_MEMORY = 4  # micro-batches for each one before: where half the memory was missing, this leaves room

_CPU_OUT_OF_MEMORY = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")  # torch has no class for it


@dataclass(frozen=True)
class Output:
    """What a network says of some clips.

    Attributes:
        logits: float32 (clips, num_classes), on the device
        extra_loss: float32 (clips,), what is minimised beside the loss of the logits; None for nothing
    """

    logits: torch.Tensor
    extra_loss: torch.Tensor | None = None


Forward = Callable[[Sequence[torch.Tensor]], Output]
Targets = Sequence[tuple[torch.Tensor, float]]  # labels, int64 (batch,), each with the share of the loss that they have


class TrainingBatch(Protocol):
    """Some clips, as a training needs them; ``ser_data.batches.Batch`` is one."""

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """What the model is called with; the first dimension of each is the clips."""
        ...

    @property
    def labels(self) -> torch.Tensor:
        """int64 (batch,)."""
        ...

    @property
    def clips(self) -> torch.Tensor:
        """int64 (batch,), the clips' indices in the corpus."""
        ...


class OutOfMemoryError(UserError):
    """A batch that does not fit into the device's memory, not in small parts either."""


def split(tensors: tuple[torch.Tensor, ...], parts: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Slices along the first dimension, whose sizes differ by one at most; padding is left as it is.

    Args:
        tensors: with a first dimension of the same size, the clips
        parts: how many slices; as many as there are clips if those are fewer

    >>> [part.tolist() for part, in split((torch.arange(5),), 2)]
    [[0, 1, 2], [3, 4]]
    """
    parts = min(parts, len(tensors[0]))
    return zip(*(torch.tensor_split(tensor, parts) for tensor in tensors), strict=True)


class BatchGradients:
    """Gradients of whole batches, in as many parts as the memory asks for.

    The first time in a training that the memory runs out, a batch is done again in smaller parts, and so are all
    batches from then on. The second time is an error.

    Args:
        loss: what is minimised
        optimiser: of the parameters whose gradients these are
        device: where the model is
        parts: micro-batches to begin with

    Attributes:
        parts: micro-batches that a batch is split into; as many as its clips if those are fewer
    """

    def __init__(
        self,
        loss: WeightedCrossEntropy,
        optimiser: torch.optim.Optimizer,
        *,
        device: torch.device,
        parts: int,
    ) -> None:
        self.parts = parts
        self._asked_parts = parts
        self._loss = loss
        self._optimiser = optimiser
        self._device = device

    def leave(
        self,
        batch: TrainingBatch,
        forward: Forward,
        *,
        targets: Targets | None = None,
        whole: torch.Tensor | None = None,
        weight: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Leave the gradient of the batch's loss in the parameters, and no other.

        Args:
            batch: some clips
            forward: the forward pass of some of them
            targets: what their loss is taken of; None for the batch's labels
            whole: where the clips are a share of a larger batch, int64, labels of all of that: loss and gradient are
                then what the share adds to those of the whole
            weight: of loss and gradient

        Returns:
            float32 (), the loss; and what the extra loss has in it, None where the network gives none

        Raises:
            RuntimeError: torch's own, if the memory runs out and this is not the first time, or clips come singly
        """
        targets = targets or [(batch.labels, 1.0)]
        wholes = [labels for labels, _ in targets] if whole is None else [whole]
        backward = partial(self._backward, batch, forward, targets, wholes, weight)
        smaller = min(_SPLIT_AFTER_OUT_OF_MEMORY * self.parts, len(batch.labels))
        if self.parts != self._asked_parts or smaller <= self.parts:
            return backward()
        try:
            return backward()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        # Past the handler: the frames that the error held are gone, and the tensors in them. With the gradients gone
        # too, the cache gives back all that it can.
        self._optimiser.zero_grad()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.parts = smaller
        return backward()

    @contextlib.contextmanager
    def explaining_out_of_memory(self, batch: TrainingBatch) -> Iterator[None]:
        """Turn torch's error into :class:`OutOfMemoryError`."""
        try:
            yield
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            clips = len(batch.labels)
            at_a_time = -(-clips // min(self.parts, clips))
            raise OutOfMemoryError(
                f"The memory of {self._device} does not hold a batch of {clips} clips taken {at_a_time} at a time. "
                "Take a smaller batch_size, a shorter max_clip_seconds, gradient_checkpointing, or a smaller encoder. "
                f"({brief(error)})"
            ) from error

    def _backward(
        self,
        batch: TrainingBatch,
        forward: Forward,
        targets: Targets,
        wholes: Sequence[torch.Tensor],
        weight: float,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._optimiser.zero_grad()
        on_device = [self._moved(labels) for labels, _ in targets]
        divisors = [self._loss.divisor(self._moved(labels)) for labels in wholes]
        total = torch.zeros((), device=self._device)
        total_extra: torch.Tensor | None = None
        num_clips = len(wholes[0])
        for part in split((*on_device, *batch.arguments), self.parts):
            output = forward(part[len(targets) :])
            loss = torch.zeros((), device=self._device)
            for labels, (_, share), divisor in zip(part, targets, divisors, strict=False):
                loss = loss + share * self._loss.share(output.logits, labels, divisor)
            if output.extra_loss is not None:
                extra = output.extra_loss.sum() / num_clips
                total_extra = extra.detach() if total_extra is None else total_extra + extra.detach()
                loss = loss + extra
            torch.autograd.backward(weight * loss)
            total += weight * loss.detach()
        return total, total_extra

    def _moved(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.to(self._device, non_blocking=self._device.type == "cuda")


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _CPU_OUT_OF_MEMORY)
