"""What a classifier's probabilities are worth on clips whose emotions are known. Light to import: numpy alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_models import metrics

_LEAST_PROBABILITY = 1e-12


def judge(
    labels: NDArray[np.int64], speakers: NDArray[np.str_], probabilities: NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Scores of *probabilities*, as values that JSON takes.

    Args:
        labels: true classes, shape ``(num_clips,)``
        speakers: of each clip, likewise
        probabilities: shape ``(num_clips, num_classes)``

    Returns:
        ``uar``, ``accuracy``, ``macro_f1`` and, of two classes, ``roc_auc``, in [0, 1]; ``loss``, the mean
        cross-entropy in nats; ``hits``, right clips by speaker (sorted by name) and class

    >>> judge(np.array([0, 1]), np.array(["a", "b"]), np.array([[0.9, 0.1], [0.6, 0.4]]))["hits"]
    [[1, 0], [0, 0]]
    """
    num_classes = probabilities.shape[1]
    predictions = probabilities.argmax(axis=1)
    matrix = metrics.confusion(labels, predictions, num_classes)
    names, rows = np.unique(speakers, return_inverse=True)
    shape = len(names), num_classes
    hits: list[list[int]] = metrics.count_by_speaker(rows, labels, predictions == labels, shape=shape).tolist()
    own = np.clip(probabilities[np.arange(len(labels)), labels], _LEAST_PROBABILITY, None)
    return {
        "uar": metrics.uar(matrix),
        "accuracy": metrics.accuracy(matrix),
        "macro_f1": metrics.macro_f1(matrix),
        **({"roc_auc": metrics.roc_auc(labels, probabilities[:, 1])} if num_classes == 2 else {}),
        "loss": float(-np.log(own).mean()),
        "hits": hits,
    }
