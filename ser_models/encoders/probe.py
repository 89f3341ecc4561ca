"""The linear probe of a frozen encoder: a logistic regression on all its mean-pooled layers side by side."""

import numpy as np
from numpy.typing import NDArray

from ser_models.encoders.data import cached_rows, encoder_on_device
from ser_models.encoders.prefix import POOLED
from ser_models.linear_probe import fit_linear_probe
from ser_models.task import Task
from ser_models.trial import Baseline


def linear_probe(task: Task, *, max_clip_seconds: float) -> Baseline:
    """The probe of the task's encoder.

    Args:
        task: which clips, and which encoder
        max_clip_seconds: how much of a clip is read
    """
    encoder = encoder_on_device(task)
    means = (encoder.num_layers + 1) * encoder.hidden_size
    pooled = cached_rows(task, (POOLED,), max_clip_seconds)[POOLED]

    def vectors_of(clips: NDArray[np.int64]) -> NDArray[np.float64]:
        vectors: NDArray[np.float64] = pooled.vectors(clips, 0, means).double().numpy()
        return vectors

    return fit_linear_probe(task, vectors_of)
