"""Scores of probabilities, held to scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from ser_models.judged import judge


@pytest.fixture
def clips() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    generator = np.random.default_rng(3)
    return generator.integers(0, 3, 60), generator.choice(["b", "a", "c"], 60), generator


def test_scores_are_scikit_learns(clips: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    labels, speakers, generator = clips
    probabilities = generator.dirichlet(np.ones(3), 60)
    scores = judge(labels, speakers, probabilities)
    predictions = probabilities.argmax(axis=1)
    assert scores["uar"] == pytest.approx(oracle.balanced_accuracy_score(labels, predictions))
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predictions))
    assert scores["macro_f1"] == pytest.approx(oracle.f1_score(labels, predictions, average="macro"))
    assert scores["loss"] == pytest.approx(oracle.log_loss(labels, probabilities))
    assert "roc_auc" not in scores


def test_hits_are_right_clips_by_sorted_speaker_and_class(
    clips: tuple[np.ndarray, np.ndarray, np.random.Generator],
) -> None:
    labels, speakers, generator = clips
    probabilities = generator.dirichlet(np.ones(3), 60)
    right = probabilities.argmax(axis=1) == labels
    expected = [[int((right & (speakers == s) & (labels == c)).sum()) for c in range(3)] for s in ("a", "b", "c")]
    assert judge(labels, speakers, probabilities)["hits"] == expected


def test_two_classes_have_a_roc_auc_of_the_second(clips: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> None:
    labels, speakers, generator = clips
    probabilities = generator.dirichlet(np.ones(2), 60)
    scores = judge(labels % 2, speakers, probabilities)
    assert scores["roc_auc"] == pytest.approx(oracle.roc_auc_score(labels % 2, probabilities[:, 1]))


def test_a_clip_that_was_held_impossible_costs_much_and_not_infinitely_much() -> None:
    assert 20 < judge(np.array([0]), np.array(["a"]), np.array([[0.0, 1.0]]))["loss"] < 30
