"""The crowd's agreement, worked out by hand on a few clips."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score

from crema_d.crowd import agreement, confusion, has_votes

EMOTIONS = ("happy", "sad")


def clips(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["emotion", "voice_vote"])


def test_a_tie_counts_in_equal_parts() -> None:
    table = clips(("happy", "happy"), ("happy", "happy:sad"), ("sad", "sad"))
    np.testing.assert_allclose(confusion(table, EMOTIONS), [[0.75, 0.25], [0, 1]])


def test_clips_without_a_vote_do_not_count() -> None:
    table = clips(("happy", "happy"), ("happy", ""), ("sad", "happy"))
    np.testing.assert_allclose(confusion(table, EMOTIONS), [[1, 0], [1, 0]])


def test_mean_is_the_unweighted_average_recall() -> None:
    rng = np.random.default_rng(0)
    intended, heard = (np.array(EMOTIONS)[rng.integers(0, 2, 50)] for _ in range(2))
    table = agreement(clips(*zip(intended, heard, strict=True)), EMOTIONS)
    assert table.loc["mean", "voice"] == pytest.approx(recall_score(intended, heard, average="macro"))


def test_only_voted_modalities_are_shown() -> None:
    assert list(agreement(clips(("happy", "sad"), ("sad", "sad")), EMOTIONS).columns) == ["voice"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (clips(("happy", "sad")), True),
        (clips(("happy", "")), False),
        (pd.DataFrame({"emotion": ["happy"]}), False),
    ],
)
def test_a_corpus_without_votes_is_known(table: pd.DataFrame, expected: bool) -> None:
    assert has_votes(table) is expected
