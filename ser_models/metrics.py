"""Scores of a classifier from its confusion matrix, and their interval over speakers.

In numpy alone, since a worker must not wait for scikit-learn's import. The tests hold each score to scikit-learn's.
"""

import numpy as np


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion matrix.

    Args:
        labels: true classes, integers in [0, num_classes), shape ``(num_clips,)``
        predictions: predicted classes, likewise
        num_classes: number of classes

    Returns:
        int64 counts, shape ``(num_classes, num_classes)``; rows are true classes, columns predicted ones

    Raises:
        ValueError: if the shapes differ or a class is outside the range
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}, predictions {predictions.shape}: not (num_clips,) both")
    for name, classes in (("labels", labels), ("predictions", predictions)):
        if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
            raise ValueError(f"{name} lie in [{classes.min()}, {classes.max()}], outside [0, {num_classes})")
    cells = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def uar(matrix: np.ndarray) -> float:
    """Unweighted average recall in [0, 1]: the mean of the recalls of the classes that occur.

    A class without a clip has no recall and is left out, as in ``sklearn.metrics.balanced_accuracy_score``.

    >>> uar(np.array([[8, 2], [1, 1]]))
    0.65
    """
    totals = matrix.sum(axis=1)
    present = totals > 0
    if not present.any():
        return float("nan")
    return float(np.mean(np.diagonal(matrix)[present] / totals[present]))


def accuracy(matrix: np.ndarray) -> float:
    """Share of clips whose class is right, in [0, 1].

    >>> accuracy(np.array([[8, 2], [1, 1]]))
    0.75
    """
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def macro_f1(matrix: np.ndarray) -> float:
    """Mean of the classes' F1 in [0, 1], over the classes that occur in labels or predictions.

    F1 of a class is ``2 TP / (2 TP + FP + FN)``, as in ``sklearn.metrics.f1_score(average="macro")``.
    """
    involved = matrix.sum(axis=0) + matrix.sum(axis=1)  # 2 TP + FP + FN
    present = involved > 0
    if not present.any():
        return float("nan")
    return float(np.mean(2 * np.diagonal(matrix)[present] / involved[present]))


def uar_interval(
    hits: np.ndarray, totals: np.ndarray, *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of UAR over speakers.

    Clips of one speaker are alike, so whole speakers are drawn with replacement: over clips it would be too narrow.

    Args:
        hits: right clips per speaker and class, integers, shape ``(speakers, classes)``
        totals: clips per speaker and class, likewise
        seed: seed of the draws
        draws: number of bootstrap samples
        level: coverage in (0, 1)

    Returns:
        lower and upper bound in [0, 1]; both NaN with fewer than two speakers, who say nothing of other speakers

    Raises:
        ValueError: if the shapes differ, a count is impossible, or *level* or *draws* is out of range
    """
    hits, totals = np.asarray(hits), np.asarray(totals)
    if hits.shape != totals.shape or hits.ndim != 2:
        raise ValueError(f"hits have shape {hits.shape}, totals {totals.shape}: both must be (speakers, classes)")
    if (hits < 0).any() or (hits > totals).any():
        raise ValueError("hits must lie between 0 and totals")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level is {level}, draws is {draws}: level must lie in (0, 1), draws must be 1 or more")
    num_speakers = len(hits)
    if num_speakers < 2 or not totals.any():
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(0, num_speakers, size=(draws, num_speakers))
    times_drawn = np.zeros((draws, num_speakers), dtype=np.int64)
    np.add.at(times_drawn, (np.arange(draws)[:, None], chosen), 1)
    drawn_hits, drawn_totals = times_drawn @ hits, times_drawn @ totals  # (draws, classes)
    present = drawn_totals > 0
    recalls = np.where(present, drawn_hits / np.maximum(drawn_totals, 1), 0.0)
    occurring = present.sum(axis=1)
    scores = recalls.sum(axis=1)[occurring > 0] / occurring[occurring > 0]
    tail = (1 - level) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)
