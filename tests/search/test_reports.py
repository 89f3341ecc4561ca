"""A trial's report goes into the record by known names, and nothing in it takes the place of something else."""

import math
from pathlib import Path
from typing import Any

import pytest

from search.reports import RESERVED, BadReport, check_report
from search.result_keys import MEASURED, METRICS
from search.trial import epochs_of_trial
from search.trial_plan import TrialPlan
from ser_models.task import Task
from ser_models.training import EpochResult
from tests.search.boards import FAIR, epoch
from tests.search.knob_family import KnobResult, KnobTrainer


def test_what_a_trial_must_report_passes_as_it_is() -> None:
    report = epoch(2, FAIR, learning_rate=0.001)
    assert check_report(0, report) == report


@pytest.mark.parametrize("left_out", ["val_hits", "num_parameters"])
def test_what_a_trial_may_report_may_be_missing(left_out: str) -> None:
    report = epoch(1, FAIR)
    del report[left_out]
    assert check_report(0, report) == report


def test_keys_of_others_are_left_behind() -> None:
    report = epoch(1, FAIR)
    others = {"trial_id": "ab12", "time_total_s": 3.0, "config": {"x": 1}, "learning_rates/rest": 0.1, "number": 7}
    assert check_report(0, {**report, **others}) == report


def test_facts_and_extras_are_pairs_that_become_keys_of_the_report() -> None:
    report = epoch(1, FAIR)
    sent = {
        **report,
        "facts": [["precision", "bf16"], ["trained_parameters", 7]],
        "extras": [["val_roc_auc", 0.75], ["val_reconstruction", 0.01]],
    }
    before = {name: list(value) if isinstance(value, list) else value for name, value in sent.items()}
    assert check_report(0, sent) == {
        **report, "precision": "bf16", "trained_parameters": 7, "val_roc_auc": 0.75, "val_reconstruction": 0.01,
    }  # fmt: skip
    assert sent == before


@pytest.mark.parametrize("kind", ["facts", "extras"])
def test_none_of_them_are_none(kind: str) -> None:
    assert check_report(0, {**epoch(1, FAIR), kind: []}) == epoch(1, FAIR)


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize(("kind", "said"), [("facts", "a fact"), ("extras", "an extra")])
def test_none_of_them_takes_a_name_that_every_report_has(name: str, kind: str, said: str) -> None:
    report = {**epoch(1, FAIR), kind: [["fine", 1.0], [name, 0.5]]}
    with pytest.raises(BadReport, match=f"^trial 7 calls {said} '{name}', which names something else in every report$"):
        check_report(7, report)


def test_the_reserved_names_are_those_of_all_that_is_reported_and_of_columns_beside_it() -> None:
    reported = set(epoch(1, FAIR, learning_rate=0.1)) | set(MEASURED)
    assert {*reported, *METRICS, "trial_id", "number"} == set(RESERVED)


def test_an_extra_does_not_take_the_name_of_a_fact() -> None:
    report = {**epoch(1, FAIR), "facts": [["boundary", "layer 2"]], "extras": [["val_roc_auc", 0.5], ["boundary", 0.1]]}
    with pytest.raises(BadReport, match="trial 7 calls an extra 'boundary', which names something else"):
        check_report(7, report)


@pytest.mark.parametrize("name", ["epoch", *METRICS])
def test_a_report_without_what_it_must_have_is_refused_by_name(name: str) -> None:
    report = epoch(1, FAIR, extras=[[name, 0.5]])  # an extra of the name does not stand in for it
    del report[name]
    with pytest.raises(BadReport, match=rf"trial 7 reported no {name} \(got: .*extras"):
        check_report(7, report)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None])
def test_an_epoch_is_a_whole_number_from_1(value: Any) -> None:
    with pytest.raises(BadReport, match=r"trial 7 reported epoch .*; epochs are whole numbers from 1"):
        check_report(7, {**epoch(1, FAIR), "epoch": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "good", True])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_is_no_finite_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadReport, match=f"trial 7, epoch 3: {name} is .*, not a finite number"):
        check_report(7, epoch(3, FAIR, **{name: value}))


def test_what_an_epoch_measured_besides_is_in_its_checked_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = KnobTrainer._result

    def result(self: KnobTrainer, epoch: int) -> EpochResult:
        return KnobResult(**{**usual(self, epoch).to_dict(), "extras": {"val_roc_auc": epoch / 4, "val_distance": 0.5}})

    monkeypatch.setattr(KnobTrainer, "_result", result)
    task = Task("corpus", "tfds", ("happy", "sad"), 0, str(tmp_path / "cache"), 1.0, "cpu")
    plan = TrialPlan(str(tmp_path / "run"), "tests.search.knob_family", task.to_dict(), 0, max_epochs=3, threads=1)
    reports = list(epochs_of_trial(0, {"x": 0.25, "depth": 2}, plan))
    assert not any(isinstance(report["extras"], dict) for report in reports)  # Tune would flatten it
    checked = [check_report(0, report) for report in reports]
    assert [(some["val_roc_auc"], some["val_distance"], some["boundary"]) for some in checked] == [
        (0.25, 0.5, "layer 2"), (0.5, 0.5, "layer 2"), (0.75, 0.5, "layer 2"),
    ]  # fmt: skip
    again = [check_report(0, report) for report in epochs_of_trial(0, {"x": 0.25, "depth": 2}, plan)]
    assert again == checked  # out of the checkpoint
