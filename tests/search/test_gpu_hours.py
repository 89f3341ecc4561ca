"""``--gpu-hours``: what counts, where it ends a search, and where it could not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from search.arguments import Arguments, parse_arguments
from search.proposals import Proposer
from search.record import Record, read_events
from search.rungs import NoStopping, RungGroups
from search.session import check_gpu_hours, gpus_spent
from search.space import load_space
from search.study import Study, gpu_seconds_used
from search.tune_adapters import SittingStopper
from ser_data.errors import UserError
from tests.search.boards import FAIR, epoch
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_search import knob_spaces


def new_study(path: Path) -> Study:
    with knob_spaces():
        proposer = Proposer(load_space("plain"), sampler="random", seed=0, study_name="x")
    return Study(Record(path), proposer, RungGroups(NoStopping, str), num_trials=9, max_epochs=3)


def test_epochs_count_with_the_gpus_that_a_trial_had_then_over_all_sittings(tmp_path: Path) -> None:
    first = new_study(tmp_path / "events.jsonl")
    first.next_trial()
    first.take_resources(1, 1.0)
    first.report(0, epoch(1, FAIR, seconds=10.0))
    assert first.gpu_seconds == pytest.approx(10)
    first._record.close()

    second = new_study(tmp_path / "events.jsonl")
    second.take_resources(1, 0.25)
    second.next_trial()
    second.report(0, epoch(2, FAIR, seconds=8.0))
    assert second.gpu_seconds == pytest.approx(12)
    assert gpu_seconds_used(read_events(tmp_path / "events.jsonl")) == pytest.approx(12)
    spent = gpus_spent(Arguments(gpu_hours=12 / 3600), [second])
    assert spent is not None and spent()
    assert SittingStopper(None, spent).stop_all() and not SittingStopper(None, gpus_spent(Arguments(), [])).stop_all()


def test_where_trials_take_no_gpu_it_is_refused(knob_search: Search, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--gpu-hours 2 would never be used up: trials take no GPU here. Set --time-b"):
        knob_search(tmp_path / "run", "--space", "plain", "--gpu-hours", "2")
    check_gpu_hours(Arguments(gpu_hours=2.0), 0.25)


def test_a_gpu_for_each_trial_where_there_is_none_is_refused(knob_search: Search, tmp_path: Path) -> None:
    message = (
        r"--gpus-per-trial 1: this cluster has no GPU, so no trial could ever start\. Leave it out, and trials take"
    )
    with pytest.raises(UserError, match=message):
        knob_search(tmp_path / "run", "--space", "plain", "--gpus-per-trial", "1")


@pytest.mark.slow
def test_alone_it_bounds_the_number_of_trials_as_a_time_budget_does(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    """A trial of the knob family reports .03 s in all; the budget is .072 s of a GPU."""
    folder = tmp_path / "run"
    packed = command(
        "--space", "plain", "--out", str(folder), "--data", str(prepared_tone_corpus), "--gpu-hours", "0.00002",
        "--cache-dir", str(tmp_path / "cache"), "--split", "speaker_kfold:4:1", "--sampler", "random",
        "--scheduler", "none", module="tests.search.packed_search",
    )  # fmt: skip
    code, out, err = packed.end()
    assert code == 0, out + err
    assert "ended by: GPU hours" in out
    events = read_events(folder / "events.jsonl")
    assert "plain: a trial has a GPU to itself: the largest took 9,400 of its 16,000 MB (made up)" in out
    assert [event["measured"][0]["gpu"] for event in events if event["kind"] == "resources"] == ["made up"]
    assert events[-1]["reason"] == "GPU hours"
    assert 0.072 <= gpu_seconds_used(events) <= 0.072 + 0.03

    again = command("--resume", str(folder), module="tests.search.packed_search")
    code, out, _ = again.end()
    assert code == 0 and "is finished" in out


def test_the_option_takes_hours_above_0() -> None:
    assert parse_arguments(["--gpu-hours", "1.5"]).gpu_hours == 1.5
    with pytest.raises(UserError, match=r"--gpu-hours: '0' is not accepted: it takes a number above 0"):
        parse_arguments(["--gpu-hours", "0"])
