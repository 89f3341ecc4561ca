"""The linear probe: what a logistic regression makes of a frozen network's vectors. What a search has to beat."""

import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ser_models.judged import judge
from ser_models.precision import resolve_precision
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.trial import Baseline

NAME = "linear probe"
_MOST_STEPS = 1000
# Inverse of the penalty: of 1, .1, … 1e-4 the one that three folds over the training speakers chose for whisper-base on
# CREMA-D. scikit-learn's default of 1 loses five points there (docs/experiments.md).
_C = 1e-3

VectorsOf = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def fit_linear_probe(task: Task, vectors_of: VectorsOf) -> Baseline:
    """Train the probe on the task's training clips and judge it on its validation clips.

    The vectors are standardised over the training clips; scikit-learn's logistic regression, classes weighted to
    count alike.

    Args:
        task: which clips, and which network, for the report
        vectors_of: float64 (clips, dim), the frozen network's vectors of some clips
    """
    started = time.perf_counter()
    clips, num_classes = open_task(task), len(task.emotions)
    train, validation = vectors_of(clips.train), vectors_of(clips.validation)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1.0
    train, validation = (train - mean) / deviation, (validation - mean) / deviation
    probabilities = _logistic_regression(train, clips.labels[clips.train], validation, num_classes)
    scores = judge(clips.labels[clips.validation], clips.speakers[clips.validation], probabilities)
    num_parameters = (train.shape[1] + 1) * num_classes
    return Baseline(
        name=NAME,
        report={
            **{f"val_{name}": value for name, value in scores.items()},
            "seconds": time.perf_counter() - started,
            "num_parameters": num_parameters,
            "trained_parameters": num_parameters,
            "precision": resolve_precision(task.precision, task.device),
        },
    )


def _logistic_regression(
    train: NDArray[np.float64], labels: NDArray[np.int64], validation: NDArray[np.float64], num_classes: int
) -> NDArray[np.float64]:
    """Probabilities (num_validation, num_classes); every class has training clips."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_C, max_iter=_MOST_STEPS, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that is nearly there is a probe
        model.fit(train, labels)
    probabilities: NDArray[np.float64] = model.predict_proba(validation)
    assert probabilities.shape[1] == num_classes
    return probabilities
