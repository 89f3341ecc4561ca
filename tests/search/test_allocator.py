"""Which space gets the next trial: its start, its floor, then the best prospect per cost."""

import random
from dataclasses import replace
from typing import Any

import pytest

from search.allocator import FLOOR, Member, choose, expected_improvement, prospects
from search.study import Outcome, StudyTrial


def ended(number: int, score: float, seconds: float, outcome: Outcome | None = "completed") -> StudyTrial:
    report: dict[str, Any] = {"val_uar": score, "seconds": seconds}
    return StudyTrial(number, {}, {}, "tpe", [report], outcome)


def member(space: str, *trials: tuple[float, float], start: int = 0, weight: float = 0.5) -> Member:
    """A member with finished trials of these scores and seconds."""
    return Member(space, [ended(number, *trial) for number, trial in enumerate(trials)], start, weight)


def test_every_space_begins_with_its_known_good_configurations_the_one_with_fewest_first() -> None:
    members = [member("a", (0.6, 10.0), start=3), member("b", start=1), member("c", (0.9, 1.0), (0.9, 1.0))]
    choice = choose(members, ["a", "b", "c"])
    assert (choice.space, choice.reason) == ("b", "start")
    assert choose(members, ["a", "c"]).space == "a"


def test_the_better_of_two_spaces_of_equal_cost_is_chosen_and_the_cheaper_of_two_equal_ones() -> None:
    good, poor = ((0.7, 60.0), (0.72, 60.0)), ((0.6, 60.0), (0.62, 60.0))
    assert choose([member("poor", *poor), member("good", *good)], ["poor", "good"]).space == "good"
    dear = tuple((score, 600.0) for score, _ in good)
    # both have had more than the floor
    assert choose([member("dear", *dear), member("cheap", *good * 3)], ["dear", "cheap"]).space == "cheap"


def test_cost_is_of_the_whole_machine() -> None:
    scores = ((0.7, 60.0), (0.72, 60.0))
    members = [member("whole", *scores, weight=1.0), member("quarter", *scores, weight=0.25)]
    found = prospects(members)
    assert found["quarter"] == pytest.approx(4 * found["whole"])


def test_a_space_without_prospect_keeps_its_floor() -> None:
    members = [member("hopeless", (0.2, 5.0), (0.2, 5.0)), member("good", *[(0.7, 100.0)] * 3)]
    choice = choose(members, ["hopeless", "good"])
    assert (choice.space, choice.reason) == ("hopeless", "floor")
    fed = [member("hopeless", *[(0.2, 25.0)] * 2), members[1]]
    assert choose(fed, ["hopeless", "good"]).space == "good"


def test_a_running_trial_counts_towards_the_floor() -> None:
    hopeless = member("hopeless", (0.2, 20.0), (0.2, 20.0))
    running = replace(hopeless, trials=[*hopeless.trials, StudyTrial(2, {}, {}, "tpe")])
    good = member("good", *[(0.7, 100.0)] * 4)
    assert choose([hopeless, good], ["hopeless", "good"]).reason == "floor"
    assert choose([running, good], ["hopeless", "good"]).space == "good"


def test_only_a_space_that_may_start_a_trial_is_chosen() -> None:
    members = [member("poor", *[(0.5, 9.0)] * 2), member("good", *[(0.8, 9.0)] * 2)]
    assert choose(members, ["poor"]).space == "poor"


def test_failed_trials_neither_raise_a_prospect_nor_the_best() -> None:
    failed = Member("failing", [ended(n, 0.99, 1.0, "failed") for n in range(3)], 0, 0.5)
    good = member("good", (0.5, 1.0), (0.5, 1.0))
    assert set(prospects([failed, good])) == {"good"}
    assert prospects([failed, good]) == prospects([good])


def test_expected_improvement_is_that_of_many_draws() -> None:
    scores, best = [0.5, 0.6, 0.55], 0.6
    mean = sum(scores) / 3
    deviation = ((sum((s - mean) ** 2 for s in scores) + 2 * 0.05**2) / 4) ** 0.5
    generator = random.Random(0)
    draws = [max(0.0, generator.gauss(mean, deviation) - best) for _ in range(200_000)]
    assert expected_improvement(scores, best) == pytest.approx(sum(draws) / len(draws), rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_most_of_a_budget_goes_to_the_space_that_can_win_and_every_space_has_its_floor(seed: int) -> None:
    generator = random.Random(seed)
    worth = {"mfcc": (0.55, 0.03, 30.0), "mel": (0.6, 0.03, 60.0), "encoder": (0.75, 0.02, 120.0)}
    trials: dict[str, list[StudyTrial]] = {space: [] for space in worth}
    for _ in range(150):
        members = [Member(space, trials[space], 2, 0.5) for space in worth]
        space = choose(members, list(worth)).space
        mean, deviation, seconds = worth[space]
        trials[space].append(ended(len(trials[space]), generator.gauss(mean, deviation), seconds))
    cost = {space: Member(space, trials[space], 2, 0.5).cost for space in worth}
    total = sum(cost.values())
    assert cost["encoder"] / total > 0.7
    assert all(share / total > FLOOR - 0.02 for share in cost.values())
