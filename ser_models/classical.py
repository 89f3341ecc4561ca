"""The classical baseline: functionals of MFCC and a support vector machine. What every network has to beat."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_data.features.settings import MfccSettings, StatisticsSettings
from ser_data.seeds import derive_seed
from ser_models.frame_data import cached_features
from ser_models.judged import judge
from ser_models.task import Task
from ser_models.task_clips import TaskClips, open_task
from ser_models.trial import Baseline

NAME = "statistics + SVM"
FEATURES = StatisticsSettings(base=MfccSettings(num_coefficients=40, deltas=2), max_clip_seconds=5.0)
_C = 3.0  # of 1, 3, 10 and 30 the one that three folds over the training speakers chose on CREMA-D
_MOST_CLIPS = 20_000  # the time of a kernel machine grows with the square of their number
_CACHE_MB = 500  # of kernel values, while it learns


@dataclass(frozen=True, eq=False)
class ClassicalModel:
    """The trained machine with its scaling.

    Attributes:
        machine: scikit-learn's
        mean: of each column over the training clips
        deviation: likewise, 1 where a column stands still
        seconds: that training took, features included
    """

    machine: Any
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    seconds: float

    def probabilities(self, task: Task) -> NDArray[np.float64]:
        """Of the clips that *task* is judged on, in the order of ``TaskClips.validation``: (clips, num_classes).

        The softmax of the machine's decision values, which ranks as they do, and is not calibrated.
        """
        values = self.machine.decision_function(
            (_features(task)[open_task(task).validation] - self.mean) / self.deviation
        )
        if values.ndim == 1:  # scikit-learn gives one column for two classes: of the second
            values = np.stack([-values, values], axis=1)
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def baseline(self, task: Task) -> Baseline:
        """What it reaches on the clips that *task* is judged on."""
        clips = open_task(task)
        scores = judge(clips.labels[clips.validation], clips.speakers[clips.validation], self.probabilities(task))
        report = {
            **{f"val_{name}": value for name, value in scores.items()},
            "seconds": self.seconds,
            "num_parameters": int(self.machine.n_support_.sum()) * len(self.mean),
        }
        return Baseline(NAME, report)


def fit_classical(task: Task) -> ClassicalModel:
    """Train it on the task's training clips.

    Mean, deviation, quantiles, skewness and slope of 40 MFCC with Δ and ΔΔ, standardised over the training clips;
    scikit-learn's ``SVC`` with a radial basis function, classes weighted to count alike. Of more than 20,000 training
    clips it learns a random 20,000.

    Raises:
        UserError: if the corpus, the split or the cache cannot be used
    """
    from sklearn.svm import SVC

    started = time.perf_counter()
    clips = open_task(task)
    chosen = _at_most(clips, _MOST_CLIPS, task.seed)
    features = _features(task)[chosen]
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1.0
    machine = SVC(C=_C, class_weight="balanced", cache_size=_CACHE_MB)
    machine.fit((features - mean) / deviation, clips.labels[chosen])
    return ClassicalModel(machine, mean, deviation, time.perf_counter() - started)


def _features(task: Task) -> NDArray[np.float64]:
    """Functionals of all of the corpus's clips: (num_clips, columns)."""
    return np.asarray(cached_features(task, FEATURES, 1).frames, dtype=np.float64)


def _at_most(clips: TaskClips, number: int, seed: int) -> NDArray[np.int64]:
    if len(clips.train) <= number:
        return clips.train
    generator = np.random.default_rng(derive_seed(seed, "classical"))
    return np.sort(generator.choice(clips.train, number, replace=False))
