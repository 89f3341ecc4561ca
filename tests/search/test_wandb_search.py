"""A whole search under W&B: one sweep through a kill and a resume, and a key that nobody has but the server."""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.record import read_events
from search.study import trials_of
from tests.search.command import Command
from tests.search.wandb_server import WandbServer

PLANTED = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def ray_files() -> Iterator[Path]:
    """Where Ray keeps its files; its sockets allow no long path."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)


@pytest.fixture
def killed_and_resumed(
    wandb_server: WandbServer,
    command: Callable[..., Command],
    prepared_tone_corpus: Path,
    tmp_path: Path,
    ray_files: Path,
) -> tuple[Path, str]:
    """A search under W&B that was killed in the middle and gone on with: its folder, and what it printed."""
    folder = tmp_path / "run"
    environment = {"WANDB_API_KEY": PLANTED, "RAY_TMPDIR": str(ray_files)}
    first = command(
        "--space", "slow", "--trials", "4", "--out", str(folder), "--data", str(prepared_tone_corpus),
        "--split", "speaker_kfold:4:1", "--cache-dir", str(tmp_path / "cache"), "--max-concurrent", "2",
        "--sampler", "random", "--wandb", "online", "--wandb-project", "p", "--wandb-entity", "e",
        environment=environment,
    )  # fmt: skip
    first.wait_for_epochs(folder, 7)
    first.kill()
    code, out, error = command("--resume", str(folder), "--wandb", "online", environment=environment).end()
    assert code == 0, (out, error)
    return folder, out + error


def test_a_killed_search_is_one_sweep_with_one_run_a_trial_and_its_key_is_in_no_file(
    killed_and_resumed: tuple[Path, str], wandb_server: WandbServer, ray_files: Path
) -> None:
    folder, printed = killed_and_resumed
    trials = trials_of(read_events(folder / "events.jsonl"))
    search_id = json.loads((folder / "config.json").read_text())["search_id"]
    (sweep,) = wandb_server.sweeps.values()
    assert sweep.state == "FINISHED"
    runs = {name: run for name, run in wandb_server.runs.items() if not name.endswith("results")}
    assert set(runs) == {f"{search_id}-{trial.trial_id}" for trial in trials.values()}
    for trial in trials.values():
        run = runs[f"{search_id}-{trial.trial_id}"]
        assert run.sweep == sweep.name
        assert (run.settings["project"], run.settings["entity"]) == ("p", "e")
        assert run.steps == list(range(1, len(trial.epochs) + 1))
        assert [line["val_uar"] for line in run.history] == pytest.approx(trial.scores)
        assert run.config["x"] == pytest.approx(trial.config["x"])
        assert (run.summary["status"], run.exit_code) == (trial.outcome, 0)
        assert run.summary["best_val_uar"] == pytest.approx(trial.best_score)
    board = wandb_server.runs[f"{search_id}-results"]
    assert "leaderboard" in board.summary and board.sweep is None
    assert set(wandb_server.artifacts[f"best-{search_id}"]) >= {"provenance.txt"}
    assert wandb_server.authorizations == {"Basic " + base64.b64encode(f"api:{PLANTED}".encode()).decode()}
    assert PLANTED not in printed
    looked_at = 0
    for root in (folder, ray_files):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                looked_at += 1
                assert PLANTED.encode() not in content, path
                assert base64.b64encode(f"api:{PLANTED}".encode()) not in content, path
    assert looked_at > 20
    assert list(ray_files.rglob("raylet.out")), "Ray's own files were not looked at"
