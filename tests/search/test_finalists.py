"""Which trials are finalists, and what a round of them trains."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.finalists.rounds import (
    Candidate,
    FixedProposals,
    Round,
    choose_candidates,
    next_round,
    read_rounds,
    runs_of,
    write_round,
)
from search.proposals import Past
from search.record import Record
from search.rungs import NoStopping, RungGroups
from search.study import Study, StudyTrial
from ser_data.errors import UserError
from tests.search.boards import FAIR, GOOD, POOR, epoch, trial


def known_good(hits: list[list[int]], **config: float) -> StudyTrial:
    return replace(trial(0, [epoch(1, hits)], **config), origin="known-good")


TRIALS = [
    known_good(POOR, x=1),
    trial(1, [epoch(1, GOOD), epoch(2, POOR)], "stopped", x=2),
    trial(2, [epoch(1, GOOD)], "failed", x=3),
    trial(3, [epoch(1, FAIR)], x=4),
    trial(4, [], x=5),
    trial(5, [epoch(1, GOOD)], x=2),
]


def names(candidates: tuple[Candidate, ...]) -> list[tuple[str, str]]:
    return [(candidate.name, candidate.role) for candidate in candidates]


def test_the_best_by_their_best_epoch_are_chosen_and_the_default_to_compare_with() -> None:
    assert names(choose_candidates(TRIALS, 2)) == [("t0001", "finalist"), ("t0003", "finalist"), ("t0000", "default")]


def test_a_default_among_the_best_is_trained_once() -> None:
    assert names(choose_candidates(TRIALS, 3)) == [("t0001", "finalist"), ("t0003", "finalist"), ("t0000", "finalist")]


def test_neither_a_failed_trial_nor_the_same_configuration_twice_is_chosen() -> None:
    assert [name for name, _ in names(choose_candidates(TRIALS, 9))] == ["t0001", "t0003", "t0000"]


def test_a_first_trial_that_a_sampler_proposed_is_no_default() -> None:
    assert names(choose_candidates([replace(TRIALS[0], origin="tpe"), TRIALS[3]], 1)) == [("t0003", "finalist")]


def of(space: str, trials: list[StudyTrial]) -> list[StudyTrial]:
    return [replace(one, space=space) for one in trials]


def test_the_best_of_all_spaces_are_chosen_by_name_with_the_defaults_of_their_spaces_alone() -> None:
    plain, other = of("plain", TRIALS), of("other", [known_good(POOR, x=9), trial(1, [epoch(1, GOOD)], x=2)])
    third = of("third", [known_good(POOR, x=7)])
    chosen = choose_candidates([*plain, *other, *third], 3)
    assert [(one.name, one.role, one.space) for one in chosen] == [
        ("plain/t0001", "finalist", "plain"),
        ("other/t0001", "finalist", "other"),  # the same values of another space are another configuration
        ("plain/t0003", "finalist", "plain"),
        ("plain/t0000", "default", "plain"),
        ("other/t0000", "default", "other"),
    ]


@pytest.fixture
def two_by_two() -> Round:
    return Round(1, choose_candidates(TRIALS, 1), 2, ("emo_superb:1", "emo_superb:2"))


def test_every_candidate_is_trained_once_before_any_is_a_second_time(two_by_two: Round) -> None:
    assert [(candidate.name, seed) for candidate, seed in two_by_two.runs] == [
        ("t0001", 1), ("t0000", 1), ("t0001", 2), ("t0000", 2),
    ]  # fmt: skip


def test_a_round_is_read_back_as_it_was_written(two_by_two: Round, tmp_path: Path) -> None:
    second = replace(two_by_two, number=2)
    for one in (second, two_by_two):
        write_round(tmp_path, one)
    assert read_rounds(tmp_path) == [two_by_two, second]
    assert two_by_two.split_folder(tmp_path, "emo_superb:2").is_dir()


def test_a_round_from_before_there_were_several_spaces_is_read(two_by_two: Round, tmp_path: Path) -> None:
    write_round(tmp_path, two_by_two)
    path = tmp_path / "finalists" / "round-1" / "round.json"
    path.write_text(path.read_text().replace(',\n      "space": ""', ""))
    assert '"space"' not in path.read_text()
    assert read_rounds(tmp_path) == [two_by_two]


@pytest.mark.parametrize("content", ["{", "[]", '{"number": 1}', '{"candidates": [{"nom": 1}]}'])
def test_a_damaged_round_is_refused_by_name(two_by_two: Round, tmp_path: Path, content: str) -> None:
    write_round(tmp_path, two_by_two)
    (tmp_path / "finalists" / "round-1" / "round.json").write_text(content)
    with pytest.raises(
        UserError, match=r"round-1/round.json is damaged .*restore it from a copy, or remove the folder"
    ):
        read_rounds(tmp_path)


def test_a_round_that_was_not_judged_goes_on_if_it_is_still_what_is_wanted(two_by_two: Round) -> None:
    other = replace(two_by_two, seeds=3)
    assert next_round([], two_by_two, judged=False).number == 1
    assert next_round([two_by_two], two_by_two, judged=False) is two_by_two
    assert next_round([two_by_two], other, judged=False) == replace(other, number=2)
    assert next_round([two_by_two], two_by_two, judged=True).number == 2
    second = replace(two_by_two, number=2)
    assert next_round([two_by_two, second], two_by_two, judged=False) is second


def study(the_round: Round, path: Path, max_epochs: int | list[int] = 2) -> Study:
    return Study(
        Record(path), FixedProposals(the_round), RungGroups(NoStopping, str), num_trials=4, max_epochs=max_epochs
    )  # fmt: skip


def test_trainings_go_on_from_their_record_and_those_that_failed_do_not_count(
    two_by_two: Round, tmp_path: Path
) -> None:
    first = study(two_by_two, tmp_path / "events.jsonl")
    for number in range(3):
        proposal = first.next_trial()
        assert proposal is not None and proposal.number == number
        assert proposal.config == two_by_two.runs[number][0].config
        first.report(number, epoch(1, FAIR))
    first.report(0, epoch(2, GOOD))
    first.fail(1, "a fault")
    first._record.close()

    second = study(two_by_two, tmp_path / "events.jsonl")
    assert second.remaining == 2
    handed_out = []
    while (proposal := second.next_trial()) is not None:
        handed_out.append((proposal.number, proposal.params))
        for number in (1, 2):
            second.report(proposal.number, epoch(number, FAIR))
    assert handed_out == [(2, {"finalist": "t0001", "seed": 2}), (3, {"finalist": "t0000", "seed": 2})]
    assert {key: one.number for key, one in runs_of(two_by_two, second.trials).items()} == {
        ("t0001", 1): 0, ("t0001", 2): 2, ("t0000", 2): 3,
    }  # fmt: skip


def test_each_training_has_the_length_of_its_own_space(two_by_two: Round, tmp_path: Path) -> None:
    lengths = [2, 1, 2, 1]
    whole = study(two_by_two, tmp_path / "events.jsonl", lengths)
    for length in lengths:
        proposal = whole.next_trial()
        assert proposal is not None
        ended = [whole.report(proposal.number, epoch(number, FAIR)) for number in range(1, length + 1)]
        assert ended == [False] * (length - 1) + [True]
    assert not whole.unfinished


def test_fixed_proposals_replay_by_number(two_by_two: Round) -> None:
    proposals = FixedProposals(two_by_two)
    proposals.replay([Past({}, [], TrialState.COMPLETE)] * 2, [0, 0, 1, 1])
    assert proposals.ask().number == 2


def test_what_is_written_is_json_that_a_person_can_read(two_by_two: Round, tmp_path: Path) -> None:
    write_round(tmp_path, two_by_two)
    stored = json.loads((tmp_path / "finalists" / "round-1" / "round.json").read_text())
    assert stored["candidates"][0] == {
        "name": "t0001", "role": "finalist", "config": {"x": 2}, "is_default": False, "space": "",
    }  # fmt: skip
