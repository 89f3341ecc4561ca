"""Early stopping: who is cut where, and that a replay gives the same rungs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from search.rungs import (
    RULES,
    Asha,
    CheckedAsha,
    Hyperband,
    MedianStopping,
    RungGroups,
    kendall,
    make_rule,
    rung_epochs,
)
from ser_data.errors import UserError


def test_rungs_lie_at_powers_of_the_reduction_factor_below_the_last_epoch() -> None:
    assert rung_epochs(1, 3, 27) == [1, 3, 9]
    assert rung_epochs(4, 3, 4) == []


def test_asha_cuts_nobody_before_as_many_peers_as_the_reduction_factor() -> None:
    rule = Asha(grace=1, reduction_factor=3, max_epochs=9)
    assert rule.report(0, 1, 0.9) is None
    assert rule.report(1, 1, 0.1) is None
    assert rule.report(2, 1, 0.2) == "rung 1: 0.200 < 0.900"


def test_asha_keeps_the_best_third_at_a_rung() -> None:
    rule = Asha(grace=2, reduction_factor=3, max_epochs=9)
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    for number, score in enumerate(scores):
        assert rule.report(number, 1, score) is None
        rule.report(number, 2, score)
    assert rule.report(6, 2, 0.55) is None  # second of seven, and two go on
    assert rule.report(7, 2, 0.45) == "rung 2: 0.450 < 0.550"


def test_asha_judges_by_the_best_score_so_far_as_the_board_does() -> None:
    rule = Asha(grace=2, reduction_factor=2, max_epochs=9)
    rule.report(0, 2, 0.5)
    rule.report(1, 1, 0.6)
    assert rule.report(1, 2, 0.4) is None


def test_asha_counts_a_repeated_report_of_a_rung_once() -> None:
    rule = Asha(grace=1, reduction_factor=2, max_epochs=9)
    rule.report(0, 1, 0.5)
    rule.report(0, 1, 0.5)
    assert rule.rungs[1] == {0: 0.5}


def test_grace_above_the_last_epoch_is_refused_with_what_is_accepted() -> None:
    for name in ("asha", "hyperband", "median"):
        with pytest.raises(UserError, match=r"--grace 31 is out of range.*30 epochs.*takes 1 to 30"):
            make_rule(name, grace=31, reduction_factor=3, max_epochs=30)


def test_median_stopping_cuts_a_trial_below_the_median_of_its_peers() -> None:
    rule = MedianStopping(grace=2, min_peers=3)
    for number, score in enumerate((0.5, 0.6, 0.7)):
        for epoch in (1, 2):
            assert rule.report(number, epoch, score) is None
    assert rule.report(3, 1, 0.1) is None
    assert rule.report(3, 2, 0.1) == "epoch 2: 0.100 < median 0.600"


def test_a_slow_learner_is_not_compared_with_a_fast_one_of_another_group() -> None:
    groups = RungGroups(lambda: Asha(grace=1, reduction_factor=2, max_epochs=9), lambda config: str(config["network"]))
    fast, slow = {"network": "statistics_mlp"}, {"network": "cnn"}
    for number in range(4):
        groups.report(fast, number, 1, 0.55)
    assert groups.report(slow, 4, 1, 0.36) is None
    assert groups.report(slow, 5, 1, 0.30) == "rung 1: 0.300 < 0.360"


def test_hyperband_deals_trials_to_brackets_with_longer_graces() -> None:
    rule = Hyperband(grace=1, reduction_factor=3, max_epochs=27)
    assert [bracket.grace for bracket in rule.brackets] == [1, 3, 9]
    for number in (0, 3, 6):
        rule.report(number, 1, 0.1 * number)
    assert len(rule.brackets[0].rungs[1]) == 3
    assert rule.report(1, 1, 0.0) is None


@given(seed=st.integers(0, 2**16), name=st.sampled_from(sorted(RULES)))
@settings(max_examples=40, deadline=None)
def test_replaying_the_reports_gives_the_same_verdicts(seed: int, name: str) -> None:
    random = np.random.default_rng(seed)
    reports = [
        (number, epoch, float(random.random())) for epoch in range(1, 10) for number in random.permutation(8).tolist()
    ]
    first, again = (make_rule(name, grace=1, reduction_factor=3, max_epochs=9) for _ in range(2))
    verdicts = [first.report(*report) for report in reports]
    assert [again.report(*report) for report in reports] == verdicts


def ended(rule: CheckedAsha, number: int, at_rung: float, at_end: float) -> str | None:
    """A trial of three epochs with a rung at the first."""
    cut = rule.report(number, 1, at_rung)
    if cut is None:
        rule.report(number, 2, at_rung)
        rule.report(number, 3, at_end)
        rule.completed(number)
    return cut


class TestCheckedAsha:
    def test_it_cuts_as_asha_does_but_for_one_in_six_that_runs_on(self) -> None:
        rule, plain = CheckedAsha(1, 3, 3), Asha(1, 3, 3)
        scores = [0.9, 0.8, *[0.5 - 0.01 * number for number in range(14)]]
        cuts = [rule.report(number, 1, score) for number, score in enumerate(scores)]
        expected = [plain.report(number, 1, score) for number, score in enumerate(scores)]
        cut_by_asha = [number for number, cut in enumerate(expected) if cut is not None]
        spared = [number for number in cut_by_asha if cuts[number] is None]
        assert spared == cut_by_asha[::6]
        assert [cuts[number] for number in cut_by_asha if number not in spared] == [
            expected[number] for number in cut_by_asha if number not in spared
        ]

    def test_a_spared_trial_is_spared_at_every_later_rung(self) -> None:
        rule = CheckedAsha(1, 2, 8)
        for number, score in enumerate((0.9, 0.1)):
            assert rule.report(number, 1, score) is None  # the second is the first that would be cut
        for epoch in range(2, 9):
            for number, score in enumerate((0.9, 0.1)):
                assert rule.report(number, epoch, score) is None
        assert rule.report(2, 1, 0.05) is not None

    def test_a_rung_that_ranks_otherwise_than_the_ends_stops_cutting(self) -> None:
        rule = CheckedAsha(1, 2, 3)
        # the better at the rung, the worse at the end
        rising = [(0.1 * number, 0.9 - 0.1 * number) for number in range(5)]
        for number, (at_rung, at_end) in enumerate(rising):
            assert ended(rule, number, at_rung, at_end) is None  # each leads when it comes, so none is cut
        assert rule.agreement(1) == pytest.approx(-1)
        assert [ended(rule, number, 0.01, 0.5) for number in range(5, 25)] == [None] * 20

    def test_a_rung_that_has_proved_itself_is_checked_more_rarely(self) -> None:
        rule = CheckedAsha(1, 2, 3)
        for number in range(6):
            assert ended(rule, number, 0.1 * number, 0.1 * number + 0.2) is None
        assert rule.agreement(1) == pytest.approx(1)
        cuts = [ended(rule, number, -0.01 * number, 0.1 - 0.01 * number) for number in range(6, 42)]
        assert [place for place, cut in enumerate(cuts) if cut is None] == [0, 12, 24]

    def test_without_ends_nothing_is_said_of_a_rung(self) -> None:
        assert CheckedAsha(1, 3, 9).agreement(1) is None

    def test_kendalls_tau_is_scipys(self) -> None:
        generator = np.random.default_rng(0)
        for _ in range(20):
            pairs = [(int(a), int(b)) for a, b in generator.integers(0, 6, size=(15, 2))]
            assert kendall(pairs) == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
        assert kendall([(1, 1), (1, 2)]) == 0.0
