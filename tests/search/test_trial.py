"""What runs on a worker, without a worker: epochs, checkpoints, and what a failure leaves behind."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.reports import check_report
from search.trial import _check_corners, check_configurations, epochs_of_trial, export_trial, task_and_settings
from search.trial_plan import TrialPlan, checkpoint_file, error_file, trial_folder
from ser_data.cache_use import cache_use
from ser_models.task import Task


@pytest.fixture
def plan(tmp_path: Path) -> TrialPlan:
    task = Task("corpus", "tfds", ("happy", "sad"), 0, str(tmp_path / "cache"), 1.0, "cpu")
    return TrialPlan(str(tmp_path / "run"), "tests.search.knob_family", task.to_dict(), 0, max_epochs=3, threads=1)


def loaded(tmp_path: Path) -> list[str]:
    path = tmp_path / "cache" / "loaded.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_a_trial_reports_every_epoch_with_its_size(plan: TrialPlan) -> None:
    reports = list(epochs_of_trial(0, {"x": 0.25}, plan))
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert {report["num_parameters"] for report in reports} == {7}


def test_an_epoch_tells_each_groups_rate_and_what_was_found_in_caches_and_all_of_it_is_recorded(
    plan: TrialPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.search.knob_family import KnobTrainer

    result_of = KnobTrainer._result

    def result(self: KnobTrainer, epoch: int) -> Any:
        cache_use.hits += 3 - epoch  # 2 in the first epoch, 1, 0
        return dataclasses.replace(result_of(self, epoch), learning_rates={"head": 0.1, "layer.0": 0.01})

    monkeypatch.setattr(KnobTrainer, "_result", result)
    cache_use.misses = 5  # of the trial before
    recorded = [check_report(0, report) for report in epochs_of_trial(0, {"x": 0.25}, plan)]
    assert [(report["learning_rate_head"], report["learning_rate_layer.0"]) for report in recorded] == [(0.1, 0.01)] * 3
    assert [report.get("cache_hits") for report in recorded] == [2, 1, None]
    assert [report.get("cache_misses") for report in recorded] == [0, 0, None]
    assert "gpu_memory_mb" not in recorded[0]


def test_an_epoch_is_on_disk_before_it_is_reported(plan: TrialPlan, tmp_path: Path) -> None:
    for report in epochs_of_trial(0, {"x": 0.25}, plan):
        saved = list(epochs_of_trial(0, {"x": 0.25}, plan))[: report["epoch"]]
        assert saved[-1] == report
        assert loaded(tmp_path)[-1] == f"0.25 {report['epoch']}"
        break


def test_a_trial_that_begins_again_goes_on_from_its_checkpoint_and_reports_what_was_before(
    plan: TrialPlan, tmp_path: Path
) -> None:
    first = epochs_of_trial(0, {"x": 0.25}, plan)
    before = [next(first), next(first)]
    first.close()
    again = list(epochs_of_trial(0, {"x": 0.25}, plan))
    assert again[:2] == before
    assert again == list(epochs_of_trial(1, {"x": 0.25}, plan))  # as if it had never stopped
    assert loaded(tmp_path) == ["0.25 2"]


def test_a_half_written_checkpoint_is_never_taken_up(plan: TrialPlan, tmp_path: Path) -> None:
    first = epochs_of_trial(0, {"x": 0.25}, plan)
    next(first)
    first.close()
    path = checkpoint_file(tmp_path / "run", 0)
    path.with_suffix(".tmp").write_bytes(path.read_bytes()[:10])
    assert [report["epoch"] for report in epochs_of_trial(0, {"x": 0.25}, plan)] == [1, 2, 3]
    assert [file.name for file in trial_folder(tmp_path / "run", 0).iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_checkpoint_torn_by_a_power_cut_costs_time_and_no_number(plan: TrialPlan, tmp_path: Path, kept: int) -> None:
    first = epochs_of_trial(0, {"x": 0.25}, plan)
    before = [next(first), next(first)]
    first.close()
    path = checkpoint_file(tmp_path / "run", 0)
    path.write_bytes(path.read_bytes()[:kept])
    assert list(epochs_of_trial(0, {"x": 0.25}, plan))[:2] == before


def test_an_exception_leaves_its_traceback_and_is_raised(plan: TrialPlan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a fault in the second epoch"):
        list(epochs_of_trial(4, {"x": 0.25, "fault": "raises"}, plan))
    text = error_file(tmp_path / "run", 4).read_text()
    assert text.startswith("Traceback") and "x is 0.25" in text


def test_a_new_try_removes_the_traceback_of_the_one_before(plan: TrialPlan, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a fault"):
        list(epochs_of_trial(4, {"x": 0.25, "fault": "raises"}, plan))
    next(epochs_of_trial(4, {"x": 0.25}, plan))
    assert not error_file(tmp_path / "run", 4).exists()


def test_corners_that_train_are_no_problem_and_leave_nothing(plan: TrialPlan, tmp_path: Path) -> None:
    assert check_configurations([{"x": 0.0}, {"x": 1.0}], plan) is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", [{"x": 0.25, "fault": "never_builds"}, {"x": "wide"}])
def test_a_corner_that_cannot_train_is_named_with_its_configuration(plan: TrialPlan, config: dict[str, Any]) -> None:
    problem = check_configurations([{"x": 0.0}, config], plan)
    assert problem is not None and str(config) in problem


def test_the_bundle_says_which_epoch_it_holds_although_the_search_had_not_heard_of_it(
    plan: TrialPlan, tmp_path: Path
) -> None:
    first = epochs_of_trial(0, {"x": 0.25}, plan)
    reported = [next(first)]
    next(first)  # saved, and cut off before it was reported
    first.close()
    assert [report["epoch"] for report in reported] == [1]
    export_trial(0, {"x": 0.25}, plan, tmp_path / "best", {"trial_id": "t0000"})
    assert (tmp_path / "best" / "provenance.txt").read_text().splitlines()[-1] == "epoch=2"


def test_a_trial_is_as_long_as_its_configuration_says_and_no_longer_than_the_space_allows(plan: TrialPlan) -> None:
    for number, (epochs, expected) in enumerate([(1, 1), (2, 2), (9, 3)]):
        reports = list(epochs_of_trial(number, {"x": 0.25, "epochs": epochs}, plan))
        assert [report["epoch"] for report in reports] == list(range(1, expected + 1))


def test_what_a_trial_says_of_itself_is_in_every_checked_report(plan: TrialPlan) -> None:
    for report in epochs_of_trial(0, {"x": 0.25, "depth": 2}, plan):
        checked = check_report(0, report)
        facts = (checked["precision"], checked["trained_parameters"], checked["boundary"])
        assert facts == ("fp32", 5, "layer 2")


def test_the_precision_that_a_checkpoint_brought_is_what_a_trial_reports() -> None:
    from search.trial import _report
    from ser_models.training import EpochResult

    result = EpochResult(1, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 10.0, 1e-3, [[1]], extras={"val_roc_auc": 0.75})
    facts = {"precision": "fp32", "boundary": "layer 3"}
    trial = SimpleNamespace(facts=facts, trainer=SimpleNamespace(precision="bf16"), num_parameters=7)
    checked = check_report(0, _report(trial, result))
    assert (checked["precision"], checked["boundary"], checked["val_roc_auc"]) == ("bf16", "layer 3", 0.75)


def test_a_worker_tries_out_the_corners_of_an_encoder_before_its_first_trial_with_it(
    plan: TrialPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    corners = ({"encoder": "a", "x": 0.0}, {"encoder": "b", "x": 0.5}, {"encoder": "b", "x": 1.0})
    plan = dataclasses.replace(plan, corners=corners, encoders={"a": "spec of a", "b": "spec of b"})
    tried: list[Any] = []
    monkeypatch.setattr("search.trial.check_configurations", lambda configs, _: tried.append(list(configs)))
    monkeypatch.setattr("search.trial._checked", set())
    for label in ("b", "a", "b"):
        assert _check_corners(plan, label) is None
    assert tried == [list(corners[1:]), [corners[0]]]


def test_a_trial_has_the_encoder_that_its_configuration_names(plan: TrialPlan) -> None:
    several = dataclasses.replace(plan, encoders={"a": "spec of a", "b": "spec of b"})
    task, settings = task_and_settings({"encoder": "b", "x": 0.5}, several)
    assert (task.encoder, settings) == ("spec of b", {"x": 0.5})
    alone, settings = task_and_settings({"x": 0.5}, plan)
    assert (alone, settings) == (Task.from_dict(plan.task), {"x": 0.5})
