"""The loss that is minimised, in shares that add up to that of the whole batch."""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Cross-entropy in nats with class weights and label smoothing: ``torch.nn.functional.cross_entropy``'s mean.

    torch divides a batch's sum by the summed weights of its targets. The mean of two halves' means is therefore not
    the mean of the whole; a half needs the whole's divisor.

    Attributes:
        class_weights: float32 (num_classes,); None for equal ones
        label_smoothing: share of each target spread over all classes, in [0, 1)
    """

    class_weights: torch.Tensor | None
    label_smoothing: float

    def mean(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a whole batch.

        Args:
            logits: float32 (batch, num_classes)
            labels: int64 (batch,)

        Returns:
            float32 ()
        """
        return functional.cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing)

    def divisor(self, labels: torch.Tensor) -> torch.Tensor:
        """float32 (), what the mean over clips of these *labels* divides by: their weights' sum."""
        if self.class_weights is None:
            return torch.tensor(float(len(labels)), device=labels.device)
        return self.class_weights[labels].sum()

    def share(self, logits: torch.Tensor, labels: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
        """What some of a batch's clips add to its :meth:`mean`.

        Args:
            logits: float32 (part, num_classes)
            labels: int64 (part,)
            divisor: of all of the batch's labels

        Returns:
            float32 (); over the parts of a batch these add up to its mean
        """
        total = functional.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / divisor
