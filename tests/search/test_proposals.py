"""Proposals: every sampler goes on after a resume as if it had not stopped, and a grid ends when all was tried."""

from pathlib import Path
from typing import Any

import pytest

from search.parameters import Parameters, Value
from search.proposals import SAMPLERS, STATEFUL, Proposal, Proposer, SpaceExhausted
from search.record import Record
from search.rungs import RungGroups, make_rule
from search.space import Space
from search.study import Study, StudyTrial
from ser_data.errors import UserError


def _suggest_smooth(trial: Parameters) -> dict[str, Value]:
    return {"x": trial.suggest_float("x", 0.0, 1.0), "y": trial.suggest_float("y", 0.0, 1.0)}


def _suggest_mixed(trial: Parameters) -> dict[str, Value]:
    return {**_suggest_smooth(trial), **_suggest_discrete(trial)}


def _suggest_discrete(trial: Parameters) -> dict[str, Value]:
    config: dict[str, Value] = {"kind": trial.suggest_categorical("kind", ("flat", "steep"))}
    if config["kind"] == "steep":
        config["slope"] = trial.suggest_int("slope", 1, 3)
    return config


SMOOTH = Space("smooth", "", "toy", 12, 1, 1, ({"x": 0.5, "y": 0.5},), _suggest_smooth)
MIXED = Space("mixed", "", "toy", 12, 1, 1, ({"x": 0.5, "y": 0.5, "kind": "flat"},), _suggest_mixed)
DISCRETE = Space("discrete", "", "toy", 12, 1, 1, ({"kind": "steep", "slope": 2},), _suggest_discrete)


def run(path: Path, space: Space, sampler: str, trials: int) -> Study:
    """A search whose trials have one epoch each."""
    with Record(path) as record:
        rungs = RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=1), lambda config: "")
        proposer = Proposer(space, sampler=sampler, seed=7, study_name="toy")
        study = Study(record, proposer, rungs, num_trials=trials, max_epochs=1)
        while (proposal := study.next_trial()) is not None:
            study.report(proposal.number, _report(1 - abs(float(proposal.config.get("x", 0.5)) - 0.3)))
    return study


def _report(score: float) -> dict[str, Any]:
    names = ("train_loss", "val_loss", "val_uar", "val_accuracy", "val_macro_f1", "seconds", "clips_per_second")
    return {"epoch": 1, **dict.fromkeys(names, 1.0), "val_uar": score}


def configs(study: Study) -> list[dict[str, Value]]:
    return [trial.config for trial in study.trials.values()]


ALL = [
    *((sampler, space) for sampler in sorted(set(SAMPLERS) - {"grid"}) for space in (SMOOTH, MIXED)),
    ("grid", DISCRETE),
]


@pytest.mark.parametrize(("sampler", "space"), ALL, ids=lambda value: getattr(value, "name", value))
def test_a_search_in_two_sittings_proposes_what_one_in_a_single_sitting_does(
    tmp_path: Path, sampler: str, space: Space
) -> None:
    whole = configs(run(tmp_path / "one", space, sampler, trials=18))  # of two parameters three generations of CMA-ES
    for first in (3, 13):
        run(tmp_path / f"{first}", space, sampler, trials=first)
        assert configs(run(tmp_path / f"{first}", space, sampler, trials=18)) == whole, f"after {first} trials"


def run_two(path: Path, sampler: str, trials: int, *, reports: int | None = None) -> Study:
    """A search whose trials run two at a time, the older one reporting first; it dies before the next of *reports*."""
    with Record(path) as record:
        rungs = RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=1), lambda config: "")
        proposer = Proposer(SMOOTH, sampler=sampler, seed=7, study_name="toy")
        study = Study(record, proposer, rungs, num_trials=trials, max_epochs=1)
        live: list[Proposal] = []
        done = 0
        while True:
            while len(live) < 2 and (proposal := study.next_trial()) is not None:
                live.append(proposal)
            if not live or done == reports:
                return study
            # trials end in another order than they began in
            ended = live.pop(done % 2 if len(live) > 1 else 0)
            study.report(ended.number, _report(1 - abs(float(ended.config["x"]) - 0.3)))
            done += 1


@pytest.mark.parametrize("sampler", STATEFUL[:2])
def test_a_state_comes_back_where_trials_ran_side_by_side(tmp_path: Path, sampler: str) -> None:
    whole = configs(run_two(tmp_path / "whole", sampler, 16))
    for reports in (2, 8):  # even, so that the next sitting takes turns as this one would have
        run_two(tmp_path / f"{reports}", sampler, 16, reports=reports)
        assert configs(run_two(tmp_path / f"{reports}", sampler, 16)) == whole


@pytest.mark.parametrize("sampler", STATEFUL)
def test_a_record_that_the_sampler_would_not_write_is_taken_as_it_is(tmp_path: Path, sampler: str) -> None:
    space = DISCRETE if sampler == "grid" else SMOOTH
    before = configs(run(tmp_path / "events.jsonl", space, "random", trials=3))
    study = run(tmp_path / "events.jsonl", space, sampler, trials=9)
    assert configs(study)[:3] == before
    told = study._proposer.frozen_trials
    assert [trial.params for trial in told[: len(study.trials)]] == [trial.params for trial in study.trials.values()]


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"grid"}))
def test_no_sampler_repeats_itself_after_a_resume(tmp_path: Path, sampler: str) -> None:
    run(tmp_path / "events.jsonl", SMOOTH, sampler, trials=4)
    found = configs(run(tmp_path / "events.jsonl", SMOOTH, sampler, trials=8))
    assert len({tuple(config.values()) for config in found}) == 8


@pytest.mark.parametrize("first", [3, 9])
def test_a_grid_ends_when_every_configuration_was_tried_once(tmp_path: Path, first: int) -> None:
    run(tmp_path / "events.jsonl", DISCRETE, "grid", trials=first)
    study = run(tmp_path / "events.jsonl", DISCRETE, "grid", trials=9)
    found = sorted((str(config["kind"]), config.get("slope")) for config in configs(study))
    assert found == [("flat", None), ("steep", 1), ("steep", 2), ("steep", 3)]
    assert study.exhausted and not study.unfinished
    assert study.next_trial() is None


def test_trials_that_run_side_by_side_share_out_a_grid() -> None:
    proposer = Proposer(DISCRETE, sampler="grid", seed=0, study_name="toy")
    asked = [proposer.ask().config for _ in range(4)]
    assert len({tuple(config.values()) for config in asked}) == 4
    with pytest.raises(SpaceExhausted):
        proposer.ask()


def test_a_grid_over_a_continuous_parameter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    space = Space("smooth", "", "toy", 12, 1, 1, (), _suggest_smooth)
    with pytest.raises(
        UserError, match=r"--sampler grid cannot enumerate the space smooth.*--fix NAME=VALUE, or take tpe"
    ):
        run(tmp_path / "events.jsonl", space, "grid", trials=2)


def test_a_failed_trial_is_not_tried_again(tmp_path: Path) -> None:
    with Record(tmp_path / "events.jsonl") as record:
        rungs = RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=1), lambda config: "")
        proposer = Proposer(DISCRETE, sampler="grid", seed=0, study_name="toy")
        study = Study(record, proposer, rungs, num_trials=9, max_epochs=1)
        failed: list[StudyTrial] = []
        while (proposal := study.next_trial()) is not None:
            study.fail(proposal.number, "no reason")
            failed.append(study.trials[proposal.number])
    assert len(failed) == 4 and all(trial.outcome == "failed" for trial in failed)
