"""The study without Ray: what is tried, who stops, and that a replay is the same as never having stopped."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.parameters import Parameters, Value
from search.proposals import Proposer, StudyJournal
from search.record import Record, read_events
from search.rungs import Asha, RungGroups, make_rule
from search.space import Space
from search.study import Study, seconds_used, trials_of
from ser_models.trial import Baseline

MAX_EPOCHS = 9


def _suggest(trial: Parameters) -> dict[str, Value]:
    kind = trial.suggest_categorical("kind", ("flat", "steep"))
    config: dict[str, Value] = {"kind": kind, "x": trial.suggest_float("x", 0.0, 1.0)}
    if kind == "steep":
        config["slope"] = trial.suggest_float("slope", 0.1, 1.0, log=True)
    return config


SPACE = Space(
    "toy",
    "",
    "toy",
    12,
    MAX_EPOCHS,
    1,
    ({"kind": "flat", "x": 0.9}, {"kind": "steep", "x": 0.5, "slope": 0.5}),
    _suggest,
)


def report(score: float, epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_uar": score, "val_accuracy": score,
        "val_macro_f1": score, "seconds": 0.5, "clips_per_second": 10.0,
    }  # fmt: skip


def score_of(config: dict[str, Any], epoch: int) -> float:
    peak = 1 - abs(config["x"] - 0.3)
    return peak * (1 - math.exp(-epoch * config.get("slope", 0.3)))


def _group(config: Mapping[str, Any]) -> str:
    return str(config["kind"])


def _rungs(groups: RungGroups) -> dict[str, dict[int, dict[int, float]]]:
    return {name: rule.rungs for name, rule in groups.rules.items() if isinstance(rule, Asha)}


class Killed(Exception):
    """The driver dies here."""


class DyingRecord(Record):
    """A record whose process dies once it holds *limit* events."""

    limit: int | None = None

    def append(self, event: dict[str, Any]) -> None:
        if self.limit is not None and len(self.events) >= self.limit:
            raise Killed
        super().append(event)


def run(path: Path, *, trials: int = 12, limit: int | None = None, sampler: str = "tpe") -> tuple[Study, RungGroups]:
    """Run the toy search as one worker would, from the record's state to its end (or to *limit* events)."""
    rule = RungGroups(lambda: make_rule("asha", grace=1, reduction_factor=3, max_epochs=MAX_EPOCHS), _group)
    with DyingRecord(path) as record:
        record.limit = limit
        proposer = Proposer(SPACE, sampler=sampler, seed=7, study_name="toy")
        study = Study(record, proposer, rule, num_trials=trials, max_epochs=MAX_EPOCHS)
        while (proposal := study.next_trial()) is not None:
            epoch = 1
            while not study.report(proposal.number, report(score_of(proposal.config, epoch), epoch)):
                epoch += 1
        study.end("trials")
    return study, rule


def essence(path: Path) -> list[dict[str, Any]]:
    """The record without clocks and sittings: a trial that is begun again repeats nothing else."""
    return [
        {key: value for key, value in event.items() if key != "at"}
        for event in read_events(path)
        if event["kind"] not in ("format", "sitting", "ended")
    ]


def test_known_good_configurations_go_first_in_a_define_by_run_space(tmp_path: Path) -> None:
    study, _ = run(tmp_path / "events.jsonl")
    assert study.trials[0].config == {"kind": "flat", "x": 0.9}
    assert study.trials[1].config == {"kind": "steep", "x": 0.5, "slope": 0.5}
    assert [study.trials[number].origin for number in (0, 1, 2)] == ["known-good", "known-good", "tpe"]


def test_a_stopped_trial_is_told_as_pruned_with_its_intermediate_values(tmp_path: Path) -> None:
    study, _ = run(tmp_path / "events.jsonl")
    stopped = [trial for trial in study.trials.values() if trial.outcome == "stopped"]
    assert stopped
    for trial in stopped:
        told = study._proposer.frozen_trials[trial.number]
        assert told.state == TrialState.PRUNED
        assert told.intermediate_values == dict(enumerate(trial.scores, start=1))
    finished = next(trial for trial in study.trials.values() if trial.outcome == "completed")
    assert study._proposer.frozen_trials[finished.number].state == TrialState.COMPLETE
    assert study._proposer.frozen_trials[finished.number].value == max(finished.scores)


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_search_killed_after_any_event_ends_where_an_uninterrupted_one_ends(tmp_path: Path, sampler: str) -> None:
    whole = tmp_path / "whole.jsonl"
    _, whole_rule = run(whole, sampler=sampler)
    num_events = len(read_events(whole))
    for limit in range(2, num_events, 3):
        path = tmp_path / f"{limit}.jsonl"
        with pytest.raises(Killed):
            run(path, limit=limit, sampler=sampler)
        study, rule = run(path, sampler=sampler)
        assert essence(path) == essence(whole), f"killed after {limit} events"
        assert _rungs(rule) == _rungs(whole_rule)
        assert [t.params for t in study._proposer.frozen_trials] == [t.params for t in study.trials.values()]


def test_a_finished_search_goes_on_with_more_trials_as_if_it_had_had_them_from_the_start(tmp_path: Path) -> None:
    run(tmp_path / "short.jsonl", trials=6)
    run(tmp_path / "short.jsonl", trials=12)
    run(tmp_path / "long.jsonl", trials=12)
    assert essence(tmp_path / "short.jsonl") == essence(tmp_path / "long.jsonl")


def test_an_epoch_that_is_known_is_passed_over(tmp_path: Path) -> None:
    study, proposal = _begun(tmp_path)
    assert study.report(proposal, report(0.5, 1)) is False
    assert study.report(proposal, report(0.9, 1)) is False
    assert study.trials[proposal].scores == [0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_uar": float("nan")}, "trial 0, epoch 1: val_uar is nan, not a finite number"),
        ({"val_loss": float("inf")}, "val_loss is inf"),
        ({"epoch": 3}, "reported epoch 3 after epoch 0"),
        ({"epoch": 1.5}, "reported epoch 1.5; epochs are whole numbers"),
        ({"val_uar": None}, "reported no val_uar"),
        ({"facts": [["val_loss", 0.1]]}, "trial 0 calls a fact 'val_loss', which names something else in every report"),
    ],
)
def test_a_report_that_cannot_be_ranked_fails_its_trial_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    study, number = _begun(tmp_path)
    bad = {key: value for key, value in {**report(0.5, 1), **change}.items() if value is not None}
    assert study.report(number, bad) is True
    assert study.trials[number].outcome == "failed"
    assert message in study.trials[number].reason
    assert study._proposer.frozen_trials[number].state == TrialState.FAIL
    assert study.next_trial() is not None


def _begun(tmp_path: Path) -> tuple[Study, int]:
    record = Record(tmp_path / "events.jsonl")
    rule = RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=MAX_EPOCHS), _group)
    study = Study(
        record, Proposer(SPACE, sampler="random", seed=0, study_name="toy"), rule, num_trials=3, max_epochs=MAX_EPOCHS
    )
    proposal = study.next_trial()
    assert proposal is not None
    return study, proposal.number


def test_the_journal_opens_in_optuna_and_holds_what_the_record_says(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    study, _ = run(path)
    finished = study._proposer.frozen_trials
    for _ in range(2):  # written anew over an older one, torn or not
        StudyJournal(tmp_path / "study.journal", "toy", finished)
    (tmp_path / "study.journal").write_bytes((tmp_path / "study.journal").read_bytes()[:-7])
    StudyJournal(tmp_path / "study.journal", "toy", finished)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    opened = optuna.load_study(study_name="toy", storage=optuna.storages.JournalStorage(backend))
    assert [trial.params for trial in opened.trials] == [trial.params for trial in study.trials.values()]
    assert opened.best_value == max(
        max(trial.scores) for trial in trials_of(read_events(path)).values() if trial.outcome == "completed"
    )


def test_wall_time_adds_up_over_sittings() -> None:
    events = [
        {"kind": "format"}, {"kind": "sitting", "at": 100.0}, {"kind": "epoch", "at": 130.0},
        {"kind": "sitting", "at": 500.0}, {"kind": "ended", "at": 510.0},
    ]  # fmt: skip
    assert seconds_used(events) == 40.0


LENGTHS = (2, 5)


def _suggest_with_length(trial: Parameters) -> dict[str, Value]:
    return {"kind": "flat", "x": trial.suggest_float("x", 0.0, 1.0), "epochs": trial.suggest_categorical("e", LENGTHS)}


def _run_with_lengths(path: Path, *, sampler: str = "random", limit: int | None = None, trials: int = 6) -> Study:
    space = Space("lengths", "", "toy", trials, MAX_EPOCHS, 1, (), _suggest_with_length, {"x": "0.5"})
    rule = RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=MAX_EPOCHS), _group)
    with DyingRecord(path) as record:
        record.limit = limit
        proposer = Proposer(space, sampler=sampler, seed=7, study_name="toy")
        study = Study(record, proposer, rule, num_trials=trials, max_epochs=MAX_EPOCHS)
        while (proposal := study.next_trial()) is not None:
            epoch = 1
            while not study.report(proposal.number, report(score_of(proposal.config, epoch), epoch)):
                epoch += 1
        study.end("trials")
    return study


def test_a_trial_completes_at_its_own_length(tmp_path: Path) -> None:
    study = _run_with_lengths(tmp_path / "events.jsonl")
    assert {len(trial.epochs) for trial in study.trials.values()} == set(LENGTHS)
    for trial in study.trials.values():
        assert (trial.outcome, len(trial.epochs)) == ("completed", trial.config["epochs"])
        assert study._proposer.frozen_trials[trial.number].state == TrialState.COMPLETE


def test_trials_of_different_lengths_are_replayed_after_a_kill_at_any_event(tmp_path: Path) -> None:
    _run_with_lengths(tmp_path / "whole.jsonl")
    for limit in range(2, len(read_events(tmp_path / "whole.jsonl"))):
        path = tmp_path / f"{limit}.jsonl"
        with pytest.raises(Killed):
            _run_with_lengths(path, limit=limit)
        _run_with_lengths(path)
        assert essence(path) == essence(tmp_path / "whole.jsonl"), f"killed after {limit} events"


def test_a_grid_over_lengths_ends_where_all_were_tried_and_goes_on_from_a_record(tmp_path: Path) -> None:
    for trials in (1, 6):
        study = _run_with_lengths(tmp_path / "events.jsonl", sampler="grid", trials=trials)
    assert sorted(trial.config["epochs"] for trial in study.trials.values()) == [2, 5]
    assert study.exhausted


def test_a_baseline_is_written_once_and_a_replay_passes_over_it(tmp_path: Path) -> None:
    study, number = _begun(tmp_path)
    for _ in range(2):
        study.add_baseline(Baseline("linear probe", {"val_uar": 0.5}))
    study.report(number, report(0.5, 1))
    events = read_events(tmp_path / "events.jsonl")
    assert [event["name"] for event in events if event["kind"] == "baseline"] == ["linear probe"]
    assert list(trials_of(events)) == [number]
    study._record.close()
    again, _ = _begun(tmp_path)
    assert again.baselines == [Baseline("linear probe", {"val_uar": 0.5})]
    assert again.trials[number].scores == [0.5]
