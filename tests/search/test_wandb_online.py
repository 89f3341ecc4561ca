"""W&B online: the real client against a stand-in for the server, asserted from what the server was told."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.tracking.tracker import Tracker
from tests.search.boards import FAIR, GOOD, POOR, config_json, epoch, trial
from tests.search.test_tracking import play
from tests.search.wandb_server import USER, WandbServer


@pytest.fixture
def config() -> dict[str, Any]:
    """``config.json`` of a search over the space ``quick``."""
    from search.arguments import Arguments
    from search.run_folder import plain

    made = config_json()
    made["arguments"] = plain(Arguments(seed=3, wandb_project="p"))
    return made


@pytest.fixture
def tracker(config: dict[str, Any], tmp_path: Path) -> Callable[..., Tracker]:
    """``tracker(said)``: online, of one and the same search."""

    def make(said: list[str] | None = None) -> Tracker:
        say = [].append if said is None else said.append
        return Tracker(tmp_path / "my-run", config, mode="online", project="p", entity=None, say=say)

    return make


ENDED = [
    trial(0, [epoch(1, POOR), epoch(2, GOOD), epoch(3, FAIR)], network="cnn", dropout=0.25),
    trial(1, [epoch(1, POOR)], "stopped", reason="rung 1: 0.333 < 0.500", network="cnn", dropout=0.5),
    trial(2, [epoch(1, POOR)], "failed", reason="ValueError: x", network="cnn", dropout=0.5),
]


def test_every_trial_is_a_run_of_the_searchs_sweep(
    wandb_server: WandbServer, tracker: Callable[..., Tracker], tmp_path: Path
) -> None:
    (tmp_path / "my-run").mkdir()
    said: list[str] = []
    with tracker(said) as open_tracker:
        for each in ENDED:
            play(open_tracker, each, each.outcome)
        open_tracker.conclude(interrupted=False)
    assert said == []
    (sweep,) = wandb_server.sweeps.values()
    assert sweep.state == "FINISHED"
    assert set(yaml.safe_load(sweep.config)["parameters"]) >= {"network", "dropout"}
    runs = [wandb_server.runs[f"beef0123-t000{number}"] for number in range(3)]
    assert {run.sweep for run in runs} == {sweep.name}
    assert {(run.settings["project"], run.settings["entity"], run.settings["groupName"]) for run in runs} == {
        ("p", USER, "beef0123")
    }
    assert [run.settings["displayName"] for run in runs] == ["my-run-t0000", "my-run-t0001", "my-run-t0002"]
    assert [run.steps for run in runs] == [[1, 2, 3], [1], [1]]
    assert [run.exit_code for run in runs] == [0, 0, 1]
    assert [run.tags - {"mfcc", "tfds"} for run in runs] == [
        {"completed", "rung-1"}, {"stopped", "rung-1"}, {"failed", "rung-1"}
    ]  # fmt: skip
    first = runs[0]
    assert [line["val_uar"] for line in first.history] == pytest.approx([1 / 3, 5 / 6, 1 / 2])
    assert [line["best_val_uar"] for line in first.history] == pytest.approx([1 / 3, 5 / 6, 5 / 6])
    assert {"train_loss", "val_loss", "seconds", "clips_per_second"} <= set(first.history[0])
    assert (first.config["dropout"], first.config["network"], first.config["seed"]) == (0.25, "cnn", 3)
    assert (first.summary["best_val_uar"], first.summary["best_epoch"]) == (pytest.approx(5 / 6), 2)
    assert runs[1].summary["reason"] == "rung 1: 0.333 < 0.500"
    assert not any("host" in run.settings and run.settings["host"] != "search" for run in runs)


def test_a_resumed_trial_goes_on_in_its_own_run_and_the_sweep_is_taken_up_again(
    wandb_server: WandbServer, tracker: Callable[..., Tracker]
) -> None:
    begun = trial(0, [epoch(1, POOR), epoch(2, FAIR)], None)
    with tracker() as open_tracker:
        play(open_tracker, begun, None)
        open_tracker.conclude(interrupted=True)
    (sweep,) = wandb_server.sweeps.values()
    run = wandb_server.runs["beef0123-t0000"]
    assert (sweep.state, run.steps, run.exit_code, run.summary["status"]) == ("PAUSED", [1, 2], 255, "interrupted")
    begun.epochs.append(epoch(3, GOOD))
    begun.outcome = "completed"
    with tracker() as open_tracker:
        open_tracker.make_up_for([begun])
        open_tracker.conclude(interrupted=False)
    assert list(wandb_server.sweeps.values()) == [sweep] and sweep.state == "FINISHED"
    assert (run.steps, run.exit_code, run.summary["status"]) == ([1, 2, 3], 0, "completed")
    assert [line["best_val_uar"] for line in run.history] == pytest.approx([1 / 3, 1 / 2, 5 / 6])
    assert set(wandb_server.runs) == {"beef0123-t0000", "beef0123-results"}


def test_what_wandb_has_whole_is_not_opened_again(wandb_server: WandbServer, tracker: Callable[..., Tracker]) -> None:
    for _ in range(2):
        with tracker() as open_tracker:
            open_tracker.make_up_for(ENDED[:2])
    upserts = [run.upserts for run in wandb_server.runs.values()]
    assert upserts == [2, 2]  # its beginning and its end, once


def test_a_trial_that_the_end_of_the_time_cut_off_counts_as_stopped(
    wandb_server: WandbServer, tracker: Callable[..., Tracker]
) -> None:
    with tracker() as open_tracker:
        play(open_tracker, trial(0, [epoch(1, POOR)], None), None)
        open_tracker.conclude(interrupted=False)
    run = wandb_server.runs["beef0123-t0000"]
    assert (run.exit_code, run.summary["status"], run.summary["reason"]) == (0, "stopped", "the search ended")


@pytest.mark.parametrize("fault", ["refuse", "deny", "drop", "delay"])
def test_a_server_that_fails_is_said_once_and_what_it_lacks_is_sent_when_it_is_back(
    fault: str, wandb_server: WandbServer, tracker: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.tracking.writer.START_SECONDS", 0.5)
    monkeypatch.setattr("search.tracking.writer.FINISH_SECONDS", 0.5)
    wandb_server.delay = 60
    said: list[str] = []
    with tracker(said) as open_tracker:
        play(open_tracker, ENDED[0])
        wait_until(lambda: any(run.exit_code == 0 for run in list(wandb_server.runs.values())))
        wandb_server.fault = fault
        play(open_tracker, ENDED[1], "stopped")
        wait_until(lambda: bool(said))
        play(open_tracker, ENDED[2], "failed")
        wandb_server.fault = None
        monkeypatch.setattr("search.tracking.tracker.RETRY_SECONDS", 0.0)
        open_tracker._away_until = 0.0
    assert len(said) == 1 and "the search goes on, and nothing is lost" in said[0]
    runs = [wandb_server.runs[f"beef0123-t000{number}"] for number in range(3)]
    assert [(run.steps, run.exit_code) for run in runs] == [([1, 2, 3], 0), ([1], 0), ([1], 1)]
    assert len({run.sweep for run in runs}) == 1


def test_history_that_the_client_gave_up_on_is_noticed_at_the_end(
    wandb_server: WandbServer, tracker: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The client ends such a run as if nothing had happened."""
    monkeypatch.setattr("search.tracking.writer._LAGS", (0.0, 0.0))
    wandb_server.is_faulty = lambda path: path.endswith("/file_stream")
    wandb_server.fault = "deny"
    said: list[str] = []
    with tracker(said) as open_tracker:
        play(open_tracker, ENDED[0])
    assert said == [
        "W&B: not everything could be sent, and nothing is lost. Upload it with: python search/sync_wandb.py "
        f"{tmp_path / 'my-run'}"
    ]


def test_a_deleted_sweep_is_made_anew(wandb_server: WandbServer, tracker: Callable[..., Tracker]) -> None:
    for _ in range(2):
        with tracker() as open_tracker:
            open_tracker.make_up_for(ENDED[:1])
        last = list(wandb_server.sweeps)
        wandb_server.sweeps = {"other": wandb_server.sweeps[last[0]]}
        wandb_server.runs.clear()
    assert last == ["other", "sweep1"]


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once it does; the test's own time limit ends what never does."""
    while not holds():
        time.sleep(0.02)
