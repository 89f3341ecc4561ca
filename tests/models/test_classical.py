"""The classical baseline, held to scikit-learn's own pipeline on the same features."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ser_models import classical
from ser_models.classical import FEATURES, ClassicalModel, fit_classical
from ser_models.frame_data import cached_features
from ser_models.task import Task
from ser_models.task_clips import open_task


@pytest.fixture(scope="module")
def task(prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    cache = str(tmp_path_factory.mktemp("classical"))
    emotions = ("anger", "disgust", "fear", "happy", "neutral", "sad")
    return Task(str(prepared_tone_corpus), "speaker_kfold:4:1", emotions, 0, cache, 1.0, "cpu")


@pytest.fixture(scope="module")
def model(task: Task) -> ClassicalModel:
    return fit_classical(task)


def pipeline(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the judged clips, and what scikit-learn's pipeline predicts for them."""
    clips = open_task(task)
    features = np.asarray(cached_features(task, FEATURES, 1).frames, dtype=np.float64)
    oracle = make_pipeline(StandardScaler(), SVC(C=3.0, class_weight="balanced", break_ties=True))
    oracle.fit(features[clips.train], clips.labels[clips.train])
    return clips.labels[clips.validation], oracle.predict(features[clips.validation])


@pytest.mark.parametrize("judged", ["validation", "test"])
def test_it_predicts_what_scikit_learns_pipeline_predicts(task: Task, model: ClassicalModel, judged: str) -> None:
    task = replace(task, judged=judged)
    labels, predicted = pipeline(task)
    probabilities = model.probabilities(task)
    assert (probabilities.argmax(axis=1) == predicted).all()
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert model.baseline(task).report["val_uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_of_two_emotions_it_predicts_the_same_too(task: Task) -> None:
    task = replace(task, emotions=("happy", "sad"))
    labels, predicted = pipeline(task)
    report = fit_classical(task).baseline(task).report
    assert report["val_uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert 0 <= report["val_roc_auc"] <= 1


def test_test_clips_are_other_clips_than_validation(task: Task) -> None:
    validation, test = open_task(task), open_task(replace(task, judged="test"))
    assert not set(validation.speakers[validation.validation]) & set(test.speakers[test.validation])
    assert (validation.train == test.train).all()


def test_it_learns_from_a_part_of_a_large_corpus_the_same_part_each_time(task: Task) -> None:
    with _at_most(20):
        assert len(classical._at_most(open_task(task), 20, 0)) == 20
        first, second = (fit_classical(task).probabilities(task) for _ in range(2))
    assert (first == second).all()
    assert not np.array_equal(first, fit_classical(task).probabilities(task))


def _at_most(number: int) -> Any:
    return mock.patch.object(classical, "_MOST_CLIPS", number)


def test_its_name_is_the_one_that_the_search_looks_for() -> None:
    from search.baselines import CLASSICAL_NAME

    assert classical.NAME == CLASSICAL_NAME
