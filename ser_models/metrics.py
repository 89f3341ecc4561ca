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


def count_by_speaker(
    speaker_rows: np.ndarray, labels: np.ndarray, counted: np.ndarray, *, shape: tuple[int, int]
) -> np.ndarray:
    """How many of the *counted* clips each speaker has of each class.

    Args:
        speaker_rows: row of each clip's speaker, integers, shape ``(num_clips,)``
        labels: true classes, likewise
        counted: bool, likewise: which clips count, e.g. those that were right
        shape: speakers and classes

    Returns:
        int64, of that shape
    """
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (speaker_rows[counted], labels[counted]), 1)
    return counts


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


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1]: how often a clip of class 1 has a higher score than one of class 0.

    Equal scores count half, as in ``sklearn.metrics.roc_auc_score``.

    Args:
        labels: true classes, 0 or 1, shape ``(num_clips,)``
        scores: likewise, higher for class 1

    Returns:
        NaN where a class has no clip

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # from 1; equal ones share their mean
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


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
    _check_counts(hits, totals)
    times_drawn = _draw_speakers(totals, seed, draws, level)
    return _percentiles(_drawn_uar(hits, totals, times_drawn), level)


def uar_difference_interval(
    hits_a: np.ndarray,
    hits_b: np.ndarray,
    totals: np.ndarray,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the difference in UAR of two classifiers that were judged on the same clips.

    The same drawn speakers count for both, so what makes a speaker hard for either does not widen the interval.

    Args:
        hits_a: right clips of the first per speaker and class, integers, shape ``(speakers, classes)``
        hits_b: of the second, likewise
        totals: clips per speaker and class, likewise
        seed: seed of the draws
        draws: number of bootstrap samples
        level: coverage in (0, 1)

    Returns:
        lower and upper bound of ``UAR(a) - UAR(b)``, in [-1, 1]; both NaN with fewer than two speakers

    Raises:
        ValueError: as :func:`uar_interval`
    """
    hits_a, hits_b, totals = np.asarray(hits_a), np.asarray(hits_b), np.asarray(totals)
    _check_counts(hits_a, totals)
    _check_counts(hits_b, totals)
    times_drawn = _draw_speakers(totals, seed, draws, level)
    return _percentiles(_drawn_uar(hits_a, totals, times_drawn) - _drawn_uar(hits_b, totals, times_drawn), level)


def _check_counts(hits: np.ndarray, totals: np.ndarray) -> None:
    if hits.shape != totals.shape or hits.ndim != 2:
        raise ValueError(f"hits have shape {hits.shape}, totals {totals.shape}: both must be (speakers, classes)")
    if (hits < 0).any() or (hits > totals).any():
        raise ValueError("hits must lie between 0 and totals")


def _draw_speakers(totals: np.ndarray, seed: int, draws: int, level: float) -> np.ndarray:
    """How often each speaker is in each bootstrap sample, int64 ``(draws, speakers)``; no sample of one speaker."""
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level is {level}, draws is {draws}: level must lie in (0, 1), draws must be 1 or more")
    num_speakers = len(totals)
    if num_speakers < 2:
        return np.zeros((0, num_speakers), dtype=np.int64)
    chosen = np.random.default_rng(seed).integers(0, num_speakers, size=(draws, num_speakers))
    times_drawn = np.zeros((draws, num_speakers), dtype=np.int64)
    np.add.at(times_drawn, (np.arange(draws)[:, None], chosen), 1)
    return times_drawn


def _drawn_uar(hits: np.ndarray, totals: np.ndarray, times_drawn: np.ndarray) -> np.ndarray:
    """UAR of each bootstrap sample, float64; samples without a clip are left out."""
    drawn_hits, drawn_totals = times_drawn @ hits, times_drawn @ totals  # (draws, classes)
    present = drawn_totals > 0
    recalls = np.where(present, drawn_hits / np.maximum(drawn_totals, 1), 0.0)
    occurring = present.sum(axis=1)
    scores: np.ndarray = recalls.sum(axis=1)[occurring > 0] / occurring[occurring > 0]
    return scores


def _percentiles(scores: np.ndarray, level: float) -> tuple[float, float]:
    if not len(scores):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)
