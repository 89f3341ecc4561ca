"""Tune's loop on a Ray whose nodes come and go: a lost node is nobody's failure, and none that does not fit is used."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ray.exceptions import RayActorError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from search import tune_controller
from search.cluster.joining import Cluster
from search.cluster.lost_nodes import MOST_LOST_IN_A_ROW, Fate
from search.record import read_events
from search.study import trials_of
from search.trial_plan import checkpoint_file
from search.tune_controller import FollowingController
from tests.search.knob_family import score_of
from tests.search.knob_search import ROOT, knob_spaces, sit


@dataclass(frozen=True)
class Story:
    """What :mod:`tests.search.changing_nodes` left behind: its search's folder, its text, and what it told at last."""

    folder: Path
    text: str
    told: dict[str, Any]


@pytest.fixture(scope="module")
def story(prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("changing")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    command = [sys.executable, "-m", "tests.search.changing_nodes", str(folder), str(prepared_tone_corpus)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in told, told["error"] + done.stdout
    return Story(folder, done.stdout, told)


@pytest.mark.slow
def test_a_trial_whose_node_is_lost_goes_on_elsewhere_however_often_and_it_costs_no_retry(story: Story) -> None:
    trials = trials_of(read_events(story.folder / "run/events.jsonl"))
    assert [trials[number].outcome for number in (0, 1)] == ["completed", "completed"]
    for number in (0, 1):
        x = trials[number].config["x"]
        assert trials[number].scores == [score_of(x, epoch) for epoch in range(1, 5)]
    x = trials[1].config["x"]
    loaded = (story.folder / "cache/loaded.txt").read_text().splitlines()
    assert loaded[:2] == [f"{x} 2"] * 2


@pytest.mark.slow
def test_a_trial_that_got_a_node_before_it_was_found_unfit_begins_anew_elsewhere(story: Story) -> None:
    """What the other node left is not trusted: the epochs are trained again, and come out the same."""
    trial = trials_of(read_events(story.folder / "run/events.jsonl"))[1]
    ran = [line.split()[:2] for line in (story.folder / "cache/ran.txt").read_text().splitlines()]
    assert [epoch for x, epoch in ran if x == str(trial.config["x"])] == ["1", "2", "1", "2", "3", "4"]
    assert [report["epoch"] for report in trial.epochs] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_worker_killed_while_its_node_lives_fails_its_trial_by_name(story: Story) -> None:
    last = trials_of(read_events(story.folder / "run/events.jsonl"))[2]
    assert (last.outcome, last.reason) == ("failed", "its worker process died (out of memory, or killed from outside)")
    assert story.told["code"] == 0


@pytest.mark.slow
def test_machines_that_join_or_leave_count_at_once_and_are_said_and_written_down(story: Story) -> None:
    noted = [event for event in read_events(story.folder / "run/events.jsonl") if event["kind"] == "machines"]
    changes = [(event["joined"], event["left"], event["concurrent"]) for event in noted]
    assert changes == [(1, 0, 2), (0, 1, 1), (1, 0, 2), (0, 1, 1), (1, 0, 2)]
    assert "\n1 more machine joined: 2 trials at a time\n" in story.text
    assert "\n1 machine left: 1 trial at a time\n" in story.text


@pytest.mark.slow
def test_a_node_that_joins_and_does_not_fit_is_named_and_no_trial_runs_there(story: Story) -> None:
    assert "does not see /nowhere. Results must lie where every node sees them" in story.text
    assert story.told["on_unfit"] == []


@pytest.mark.slow
def test_where_the_last_trial_runs_the_other_nodes_are_free_to_be_let_go(story: Story) -> None:
    assert story.told["free"] == 4.0  # of five: the trial's core is taken


def test_on_a_joined_cluster_a_worker_that_died_alone_is_retried_as_before(
    cluster: Cluster, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    options = [
        "--out", str(tmp_path / "run"), "--data", str(prepared_tone_corpus), "--cache-dir", str(tmp_path / "cache"),
        "--split", "speaker_kfold:4:1", "--space", "faulty", "--fix", "fault=worker_dies_once", "--trials", "1",
        "--wandb", "disabled", "--max-failures", "1",
    ]  # fmt: skip
    with knob_spaces():
        search = sit(replace(cluster, joined=True), tmp_path / "run", options)
    assert search.code == 0 and search.trials[0].outcome == "completed"
    assert "0.5 1" in (tmp_path / "cache/loaded.txt").read_text().splitlines()


class Loop:
    """Tune's loop without a Ray: what it does with failures of one running trial."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fate = Fate.LOST_NODE
        self.study = mock.Mock(trials={4: mock.Mock(epochs=[])})
        self.trial = mock.Mock(config={"number": 4}, trial_id="a", status=Trial.RUNNING)
        monkeypatch.setattr(tune_controller, "fate_of", lambda error, watch: self.fate)
        monkeypatch.setattr(TuneController, "__init__", lambda loop, **_: None)
        self.counted = mock.Mock()
        monkeypatch.setattr(
            TuneController, "_process_trial_failure", lambda loop, trial, exception: self.counted(exception)
        )
        self.loop = FollowingController(
            mock.Mock(), self.study, mock.Mock(), lambda number: checkpoint_file(folder, number).unlink()
        )
        self.loop._resetting_trials = {self.trial}
        self.loop._trial_to_actor = {}
        self.loop._search_alg = mock.Mock()
        for name in ("_try_recover", "_schedule_trial_stop"):
            monkeypatch.setattr(self.loop, name, mock.Mock())

    def fail(self, error: Exception | None = None) -> None:
        self.loop._process_trial_failure(self.trial, error or RayActorError("a", "died"))

    @property
    def recovered(self) -> int:
        recover: mock.Mock = self.loop._try_recover  # type: ignore[assignment]
        return recover.call_count


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(tmp_path, monkeypatch)


def test_a_trial_that_takes_down_ten_nodes_in_a_row_fails_and_says_so(loop: Loop) -> None:
    for _ in range(MOST_LOST_IN_A_ROW - 1):
        loop.fail()
    assert loop.recovered == MOST_LOST_IN_A_ROW - 1 and not loop.study.fail.called
    loop.fail()
    loop.study.fail.assert_called_once_with(
        4, "10 nodes in a row were lost while it ran: it may be what takes them down"
    )
    assert loop.loop._schedule_trial_stop.called  # type: ignore[attr-defined]


def test_an_epoch_in_between_ends_the_row(loop: Loop) -> None:
    for _ in range(3 * MOST_LOST_IN_A_ROW):
        loop.fail()
        loop.study.trials[4].epochs.append({})
    assert loop.recovered == 3 * MOST_LOST_IN_A_ROW and not loop.study.fail.called


def test_a_failure_of_its_own_is_counted_by_tune(loop: Loop) -> None:
    loop.fate = Fate.OWN_FAULT
    loop.fail()
    assert loop.counted.called and not loop.recovered


def test_a_death_that_tune_tells_of_twice_counts_once_and_the_trial_is_not_waited_for(loop: Loop) -> None:
    """As it does where the worker dies while it is made ready for its next trial: the second would end the trial."""
    error = RayActorError("a", "died")
    loop.fail(error)
    assert loop.trial not in loop.loop._resetting_trials
    loop.trial.status = Trial.PENDING
    loop.fail(error)
    assert loop.recovered == 1 and not loop.counted.called
    loop.fail(RayActorError("b", "died"))
    assert loop.counted.called


def test_a_trial_that_failed_on_an_unfit_node_begins_anew_without_what_was_left_there(
    loop: Loop, tmp_path: Path
) -> None:
    loop.fate = Fate.UNFIT_NODE
    checkpoint = checkpoint_file(tmp_path, 4)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    loop.fail()
    assert loop.recovered == 1 and not loop.counted.called and not checkpoint.exists()
