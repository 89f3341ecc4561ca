"""Mixup (Zhang et al. 2018, arXiv 1710.09412): a batch's clips laid over one another, and their labels with them."""

from dataclasses import dataclass

import torch

from ser_models.micro_batches import Targets, TrainingBatch


@dataclass(frozen=True)
class MixedBatch:
    """Some clips, each with another of them laid over it.

    Attributes:
        arguments: what the model is called with
        labels: int64 (batch,), of the clips themselves
        clips: int64 (batch,)
        targets: these labels and those of the clips laid over them, each with its share
    """

    arguments: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    clips: torch.Tensor
    targets: Targets


def mixed(batch: TrainingBatch, alpha: float) -> MixedBatch:
    """*batch* with a random permutation of itself laid over it, drawn from torch's global generator.

    Floating-point arguments are averaged, the clips with the share that they keep; of whole numbers, which are lengths,
    the larger one stands.

    Args:
        batch: some clips
        alpha: of the Beta(alpha, alpha) distribution that the share is drawn from; above 0
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(batch.labels))
    arguments = tuple(_over(argument, argument[order.to(argument.device)], share) for argument in batch.arguments)
    others = batch.labels[order.to(batch.labels.device)]
    return MixedBatch(arguments, batch.labels, batch.clips, [(batch.labels, share), (others, 1.0 - share)])


def _over(values: torch.Tensor, others: torch.Tensor, share: float) -> torch.Tensor:
    if values.is_floating_point():
        return torch.lerp(others, values, share)
    return torch.maximum(values, others)
