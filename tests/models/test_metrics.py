"""Scores are scikit-learn's, and the interval is over speakers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, roc_auc_score

from ser_models import metrics

NUM_CLASSES = 4

labelled = st.lists(
    st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=40
).map(lambda pairs: np.array(pairs, dtype=np.int64).T)


@given(labelled)
def test_scores_equal_those_of_scikit_learn(pair: np.ndarray) -> None:
    labels, predictions = pair
    matrix = metrics.confusion(labels, predictions, NUM_CLASSES)
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, predictions, labels=range(NUM_CLASSES)))
    assert metrics.accuracy(matrix) == pytest.approx(accuracy_score(labels, predictions))
    assert metrics.macro_f1(matrix) == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    present = np.isin(predictions, labels)
    if (
        len(np.unique(labels)) > 1 and present.all()
    ):  # scikit-learn warns about classes that are predicted and never true
        assert metrics.uar(matrix) == pytest.approx(balanced_accuracy_score(labels, predictions))


def test_a_hand_worked_example() -> None:
    # anger 4 clips, 3 right; fear 2 clips, 1 right; sad 2 clips, none right (one called anger, one fear).
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predictions = np.array([0, 0, 0, 1, 1, 0, 0, 1])
    matrix = metrics.confusion(labels, predictions, 3)
    assert matrix.tolist() == [[3, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert metrics.uar(matrix) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert metrics.accuracy(matrix) == pytest.approx(4 / 8)
    assert metrics.macro_f1(matrix) == pytest.approx((6 / 9 + 2 / 5 + 0) / 3)


def test_a_class_without_clips_has_no_recall() -> None:
    assert metrics.uar(np.array([[4, 0, 0], [0, 2, 2], [0, 0, 0]])) == pytest.approx(0.75)


def test_scores_of_no_clips_are_not_numbers() -> None:
    nothing = np.zeros((3, 3), dtype=np.int64)
    assert np.isnan([metrics.uar(nothing), metrics.accuracy(nothing), metrics.macro_f1(nothing)]).all()


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [([0, 3], [0, 0], r"labels lie in \[0, 3\]"), ([0, 1], [0, -1], r"predictions lie in \[-1, 0\]")],
)
def test_a_class_outside_the_range_is_refused(labels: list[int], predictions: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.confusion(np.array(labels), np.array(predictions), 3)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), predictions \(3,\)"):
        metrics.confusion(np.zeros(2, int), np.zeros(3, int), 3)


class TestRocAuc:
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 1), st.one_of(st.integers(-2, 2).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))
            ),
            min_size=2,
            max_size=40,
        ).filter(lambda pairs: len({label for label, _ in pairs}) == 2)
    )
    def test_it_equals_that_of_scikit_learn_ties_included(self, pairs: list[tuple[int, float]]) -> None:
        labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
        assert metrics.roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)

    def test_it_equals_that_of_scikit_learn_on_many_clips(self) -> None:
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 2, 5000)
        for digits in (1, 9):
            scores = np.round(labels + 2 * generator.normal(size=5000), digits)
            assert metrics.roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)

    def test_a_hand_worked_example(self) -> None:
        # of the six pairs, the clip of class 1 is higher in two and equal in one
        labels, scores = np.array([1, 0, 0, 1, 0]), np.array([3.0, 1.0, 2.0, 1.0, 4.0])
        assert metrics.roc_auc(labels, scores) == pytest.approx(2.5 / 6)

    def test_perfect_reversed_and_constant_scores(self) -> None:
        labels = np.array([0, 1, 0, 1, 1])
        assert metrics.roc_auc(labels, labels * 2.0) == 1.0
        assert metrics.roc_auc(labels, -labels) == 0.0
        assert metrics.roc_auc(labels, np.zeros(5)) == 0.5

    @pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [1], []])
    def test_with_one_class_alone_it_is_not_a_number(self, labels: list[int]) -> None:
        assert np.isnan(metrics.roc_auc(np.array(labels, dtype=int), np.arange(len(labels), dtype=float)))


class TestUarInterval:
    def test_it_holds_the_score_and_is_wider_when_speakers_differ(self) -> None:
        totals = np.full((9, 6), 13)
        alike = np.full((9, 6), 7)
        unlike = np.array([1, 3, 5, 6, 7, 8, 9, 11, 13])[:, None] + np.zeros((9, 6), int)
        low, high = metrics.uar_interval(alike, totals)
        assert low == high == pytest.approx(7 / 13)
        low, high = metrics.uar_interval(unlike, totals)
        assert low < 7 / 13 < high
        assert 0.2 < high - low < 0.5

    def test_it_agrees_with_resampling_clips_speaker_by_speaker(self) -> None:
        generator = np.random.default_rng(1)
        totals = generator.integers(5, 15, (7, 3))
        hits = generator.integers(0, totals + 1)
        chosen = np.random.default_rng(0).integers(0, 7, size=(1000, 7))
        scores = [(hits[rows].sum(axis=0) / totals[rows].sum(axis=0)).mean() for rows in chosen]
        expected = np.quantile(scores, [0.025, 0.975])
        assert metrics.uar_interval(hits, totals) == pytest.approx(expected)

    def test_a_class_that_a_draw_lacks_is_left_out_of_it(self) -> None:
        totals = np.array([[4, 0], [4, 4], [4, 4]])
        low, high = metrics.uar_interval(totals, totals)
        assert low == high == 1.0

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        totals = np.full((5, 2), 10)
        hits = np.random.default_rng(0).integers(0, 11, (5, 2))
        assert metrics.uar_interval(hits, totals, seed=3) == metrics.uar_interval(hits, totals, seed=3)
        few = {metrics.uar_interval(hits, totals, seed=seed, draws=20) for seed in range(5)}
        assert len(few) > 1

    def test_a_wider_level_gives_a_wider_interval(self) -> None:
        totals = np.full((9, 2), 10)
        hits = np.arange(18).reshape(9, 2) // 2
        narrow = metrics.uar_interval(hits, totals, level=0.5)
        wide = metrics.uar_interval(hits, totals, level=0.95)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]

    def test_one_speaker_says_nothing_of_others(self) -> None:
        assert np.isnan(metrics.uar_interval(np.array([[3, 4]]), np.array([[5, 5]]))).all()

    @pytest.mark.parametrize(
        ("hits", "totals", "message"),
        [
            ([[6]], [[5]], "between 0 and totals"),
            ([[-1]], [[5]], "between 0 and totals"),
            ([[1, 2]], [[5]], r"hits have shape \(1, 2\), totals \(1, 1\)"),
        ],
    )
    def test_impossible_counts_are_refused(self, hits: list[list[int]], totals: list[list[int]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            metrics.uar_interval(np.array(hits), np.array(totals))


class TestUarDifferenceInterval:
    def test_a_hand_worked_example(self) -> None:
        """Two speakers, one class: a draw holds the first twice, the second twice, or both (half of all draws)."""
        totals = np.array([[10], [10]])
        a, b = np.array([[9], [5]]), np.array([[7], [5]])  # +.2 for the first speaker, 0 for the second
        assert metrics.uar_difference_interval(a, b, totals) == pytest.approx((0.0, 0.2))
        assert metrics.uar_difference_interval(a, b, totals, level=0.4) == pytest.approx((0.1, 0.1))
        assert metrics.uar_difference_interval(b, a, totals) == pytest.approx((-0.2, 0.0))

    def test_it_agrees_with_a_loop_over_draws_of_the_same_speakers_for_both(self) -> None:
        generator = np.random.default_rng(2)
        totals = generator.integers(0, 9, (7, 3))
        a, b = generator.integers(0, totals + 1), generator.integers(0, totals + 1)
        differences = []
        for rows in np.random.default_rng(5).integers(0, 7, size=(300, 7)):
            clips = totals[rows].sum(axis=0)
            recalls = [hits[rows].sum(axis=0)[clips > 0] / clips[clips > 0] for hits in (a, b)]
            differences.append(recalls[0].mean() - recalls[1].mean())
        expected = np.quantile(differences, [0.05, 0.95])
        assert metrics.uar_difference_interval(a, b, totals, seed=5, draws=300, level=0.9) == pytest.approx(expected)

    def test_what_is_hard_for_both_does_not_widen_it(self) -> None:
        totals = np.full((9, 2), 20)
        base = np.arange(9)[:, None] * 2 + np.zeros((9, 2), int)
        low, high = metrics.uar_difference_interval(base + 2, base, totals)
        assert (low, high) == pytest.approx((0.1, 0.1))
        wide = metrics.uar_interval(base, totals)
        assert wide[1] - wide[0] > 0.2

    def test_one_speaker_says_nothing_of_others(self) -> None:
        assert np.isnan(metrics.uar_difference_interval(np.array([[3]]), np.array([[2]]), np.array([[5]]))).all()

    def test_impossible_counts_of_either_are_refused(self) -> None:
        good, totals = np.array([[1], [1]]), np.array([[2], [2]])
        for pair in ((good, good + 2), (good + 2, good)):
            with pytest.raises(ValueError, match="between 0 and totals"):
                metrics.uar_difference_interval(*pair, totals)
        with pytest.raises(ValueError, match=r"hits have shape \(1, 1\), totals \(2, 1\)"):
            metrics.uar_difference_interval(good, good[:1], totals)
