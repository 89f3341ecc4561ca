"""Uploading a search later: whole, in order, once, and from what a failed one left; and W&B's own ``wandb sync``."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from search.record import Record, lock_record
from search.sync_wandb import main
from ser_data.errors import UserError
from tests.search.conftest import Search
from tests.search.knob_search import Sitting, knob_spaces
from tests.search.test_tracking import play, tracker
from tests.search.test_wandb_online import ENDED
from tests.search.wandb_server import WandbServer


@pytest.fixture
def finished(finished_search: Sitting, tmp_path: Path) -> Iterator[Path]:
    """The folder of a search of four trials that W&B was told nothing of."""
    folder = tmp_path / "run"
    shutil.copytree(finished_search.folder, folder)
    with knob_spaces():
        yield folder


def sent(server: WandbServer) -> int:
    """How often runs were made, changed or written to."""
    return sum(operation == "UpsertBucket" or operation.endswith("/file_stream") for operation in server.operations)


def trial_runs(server: WandbServer) -> dict[str, list[int]]:
    """Steps of each trial's run, by its trial."""
    return {name[-5:]: run.steps for name, run in server.runs.items() if not name.endswith("results")}


def test_a_search_is_uploaded_whole_as_a_sweep_and_a_second_time_nothing_is_sent(
    wandb_server: WandbServer, finished: Path, finished_search: Sitting, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished)]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 runs sent, results sent; " in said
    assert re.search(r"/somebody/speech-emotion-search/sweeps/sweep0$", said.strip())
    assert trial_runs(wandb_server) == {f"t000{number}": [1, 2, 3] for number in range(4)}
    for number, trial in finished_search.trials.items():
        run = next(run for name, run in wandb_server.runs.items() if name.endswith(f"t000{number}"))
        assert (run.sweep, run.exit_code, run.summary["status"]) == ("sweep0", 0, "completed")
        assert run.summary["best_val_uar"] == pytest.approx(trial.best_score)
    assert [sweep.state for sweep in wandb_server.sweeps.values()] == ["FINISHED"]
    before = sent(wandb_server)
    assert main([str(finished)]) == 0
    assert sent(wandb_server) == before
    assert "0 of 4 runs sent, no new results" in capsys.readouterr().out
    assert len(wandb_server.sweeps) == 1
    shutil.rmtree(finished / "wandb")  # as where the folder was copied: the runs know their sweep
    assert main([str(finished)]) == 0
    assert (sent(wandb_server), len(wandb_server.sweeps)) == (before, 1)


def test_an_upload_that_fails_says_so_and_the_next_goes_on_where_it_stopped(
    wandb_server: WandbServer, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.tracking.writer.START_SECONDS", 0.5)
    monkeypatch.setattr("search.tracking.writer.FINISH_SECONDS", 0.5)
    wandb_server.is_faulty = lambda path: len(wandb_server.runs) > 1 and path == "/graphql"
    wandb_server.fault = "deny"  # a refusal is tried again for twenty seconds
    with pytest.raises(UserError, match=r"W&B could not take all of .*run \(.*the same command goes on"):
        main([str(finished)])
    wandb_server.fault = None
    wandb.teardown(exit_code=255)  # as where the command ends
    assert main([str(finished)]) == 0
    assert trial_runs(wandb_server) == {f"t000{number}": [1, 2, 3] for number in range(4)}
    assert len(wandb_server.sweeps) == 1


def test_runs_that_wandb_sync_uploaded_join_the_sweep(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The offline runs, uploaded by W&B's own command, are what was logged."""
    with tracker(tmp_path, []) as offline:
        for each in ENDED:
            play(offline, each, each.outcome)
    wandb.teardown()
    assert wandb_server.operations == []
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, sorted((tmp_path / "wandb").glob("offline-run-*")))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    runs = [wandb_server.runs[f"beef0123-t000{number}"] for number in range(3)]
    for each, run in zip(ENDED, runs, strict=True):
        assert run.steps == [report["epoch"] for report in each.epochs]
        assert [line["val_uar"] for line in run.history] == pytest.approx(each.scores)
        assert (run.config["network"], run.config["dropout"]) == (each.config["network"], each.config["dropout"])
        assert (run.summary["status"], run.settings["groupName"]) == (each.outcome, "beef0123")
        assert each.outcome in run.tags
    assert [run.exit_code for run in runs] == [0, 0, 1]


def test_an_offline_search_is_told_once_how_to_upload_it_and_is_uploaded_like_any_other(
    wandb_server: WandbServer, knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    folder = tmp_path / "run"
    sitting = knob_search(folder, "--space", "plain", "--trials", "2", "--wandb", "offline")
    wandb.teardown()
    assert wandb_server.operations == []
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3  # two trials, and the results
    assert "could be sent" not in sitting.text
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with knob_spaces():
        assert main([str(folder), "--wandb-project", "other", "--wandb-entity", "team"]) == 0
    assert trial_runs(wandb_server) == {"t0000": [1, 2, 3], "t0001": [1, 2, 3]}
    assert {(run.settings["project"], run.settings["entity"]) for run in wandb_server.runs.values()} == {
        ("other", "team")
    }


def test_several_spaces_are_a_sweep_each_and_a_board_together(
    wandb_server: WandbServer, knob_search: Search, tmp_path: Path
) -> None:
    folder = tmp_path / "several"
    knob_search(folder, "--space", "plain,second", "--trials", "4", "--max-concurrent", "1")
    with knob_spaces():
        assert main([str(folder)]) == 0
    assert [sweep.state for sweep in wandb_server.sweeps.values()] == ["FINISHED", "FINISHED"]
    by_space = {run.settings["jobType"]: run.sweep for run in wandb_server.runs.values()}
    assert set(by_space) == {"plain", "second", "results"}
    assert by_space["plain"] != by_space["second"]
    runs = [run for name, run in wandb_server.runs.items() if not name.endswith("results")]
    assert len(runs) == 4 and all(run.steps for run in runs)
    assert sum(name.endswith("results") for name in wandb_server.runs) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "events.jsonl").unlink(), "holds no trial yet"),
        (lambda folder: (folder / "config.json").unlink(), "holds no search"),
    ],
)
def test_a_folder_without_a_search_is_refused(
    spoil: Callable[[Path], None], message: str, wandb_server: WandbServer, finished: Path
) -> None:
    spoil(finished)
    with pytest.raises(UserError, match=message):
        main([str(finished)])
    assert wandb_server.operations == []


def test_a_search_that_runs_is_refused_and_so_is_an_upload_without_a_key(
    wandb_server: WandbServer, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = finished / "events.jsonl"
    with Record(record, lock_record(record)), pytest.raises(UserError, match="another search that still runs"):
        main([str(finished)])
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(UserError, match=r"`wandb login`"):
        main([str(finished)])
    assert wandb_server.operations == []
