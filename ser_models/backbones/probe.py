"""The linear probe of a frozen backbone: a logistic regression on its pooled vectors."""

import numpy as np
from numpy.typing import NDArray

from ser_models.backbones.batches import PooledVectors
from ser_models.backbones.data import cached_prefixes
from ser_models.backbones.images import ImageRecipe
from ser_models.backbones.prefix import POOLED
from ser_models.linear_probe import fit_linear_probe
from ser_models.task import Task
from ser_models.trial import Baseline


def linear_probe(task: Task, recipe: ImageRecipe) -> Baseline:
    """The probe of the task's backbone on images of *recipe*."""
    pooled = PooledVectors(cached_prefixes(task, recipe, (POOLED,))[POOLED])

    def vectors_of(clips: NDArray[np.int64]) -> NDArray[np.float64]:
        vectors: NDArray[np.float64] = pooled.read(clips, None).double().numpy()
        return vectors

    return fit_linear_probe(task, vectors_of)
