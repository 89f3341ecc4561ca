"""Between Ray Tune and the study: reasons of failures, and what is nobody's failure."""

import copy
import pickle
from functools import partial
from pathlib import Path

import pytest

from search.parameters import Parameters, Value
from search.proposals import Proposer
from search.record import Record, read_events
from search.rungs import NoStopping, RungGroups
from search.space import Space
from search.study import Study
from search.trial_plan import error_file
from search.tune_adapters import SittingStopper, StudyScheduler, StudySearcher


def _suggest(trial: Parameters) -> dict[str, Value]:
    return {"x": trial.suggest_float("x", 0.0, 1.0)}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    proposer = Proposer(Space("toy", "", "toy", 3, 3, 1, (), _suggest), sampler="random", seed=0, study_name="toy")
    rungs = RungGroups(NoStopping, lambda config: "")
    return Study(Record(tmp_path / "events.jsonl"), proposer, rungs, num_trials=3, max_epochs=3)


@pytest.fixture
def stopper() -> SittingStopper:
    return SittingStopper(None)


@pytest.fixture
def searcher(study: Study, stopper: SittingStopper, tmp_path: Path) -> StudySearcher:
    return StudySearcher(study, stopper, partial(error_file, tmp_path), lambda: 2)


@pytest.mark.parametrize(
    ("left_behind", "reason"),
    [
        ("Traceback (most recent call last):\n  File x\n    y\nValueError: too wide\n", "ValueError: too wide"),
        ("Traceback:\n  File x\nValueError: first line,\nsecond line\n", "ValueError: first line, second line"),
        ("", "unknown"),
        (None, "its worker process died (out of memory, or killed from outside)"),
    ],
)
def test_a_failed_trial_gives_its_reason_in_one_line(
    study: Study, searcher: StudySearcher, tmp_path: Path, left_behind: str | None, reason: str
) -> None:
    searcher.suggest("a")
    if left_behind is not None:
        error_file(tmp_path, 0).parent.mkdir(parents=True)
        error_file(tmp_path, 0).write_text(left_behind)
    searcher.on_trial_complete("a", error=True)
    assert (study.trials[0].outcome, study.trials[0].reason) == ("failed", reason)


def test_a_worker_that_dies_of_the_interruption_is_not_its_trials_failure(
    study: Study, searcher: StudySearcher, stopper: SittingStopper
) -> None:
    searcher.suggest("a")
    stopper.interrupt()
    searcher.on_trial_complete("a", error=True)
    assert study.trials[0].outcome is None


def test_no_more_trials_are_handed_out_than_run_at_a_time(searcher: StudySearcher) -> None:
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert isinstance(first, dict) and isinstance(second, dict)
    assert (first["number"], second["number"]) == (0, 1)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a")
    third = searcher.suggest("c")
    assert isinstance(third, dict) and third["number"] == 2
    searcher.on_trial_complete("b")
    assert searcher.suggest("d") == StudySearcher.FINISHED


def test_an_exception_of_the_study_ends_the_sitting_and_is_kept(
    study: Study, searcher: StudySearcher, stopper: SittingStopper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(study, "next_trial", full)
    assert searcher.suggest("a") == StudySearcher.FINISHED
    assert stopper.stop_all()
    assert str(stopper.failure) == "the disk is full"


def test_the_first_of_several_exceptions_is_the_one_that_counts(stopper: SittingStopper) -> None:
    for text in ("first", "second"):
        with stopper.guarding():
            raise ValueError(text)
    assert str(stopper.failure) == "first"


def test_time_that_is_up_ends_the_sitting() -> None:
    assert SittingStopper(0.0).stop_all()
    assert not SittingStopper(float("inf")).stop_all()
    assert not SittingStopper(None).stop_all()


def test_tune_may_pickle_and_copy_what_it_is_given(
    study: Study, searcher: StudySearcher, stopper: SittingStopper, tmp_path: Path
) -> None:
    scheduler = StudyScheduler(study, stopper)
    for adapter in (searcher, scheduler, stopper):
        assert copy.deepcopy(adapter) is adapter  # a copy would hear of nothing
        pickle.loads(pickle.dumps(adapter))
    assert [event["kind"] for event in read_events(tmp_path / "events.jsonl")] == ["format", "sitting"]
