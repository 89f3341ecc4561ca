"""What a trial, its process or the disk may do to a search, and what is left of it; see docs/reliability.md."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search.arguments import parse_arguments
from search.record import read_events
from search.run_folder import load
from search.trial import DiskFullError, epochs_of_trial
from search.trial_plan import TrialPlan, checkpoint_file, trial_folder
from search.watchdog import HANG_FILE, hung
from ser_data.errors import UserError
from tests.search.conftest import Search
from tests.search.knob_family import score_of
from tests.search.knob_search import ROOT, Sitting
from tests.search.test_kills import optuna_table

EPOCHS = 3


def scores(search: Sitting) -> dict[int, list[float]]:
    return {number: [report["val_uar"] for report in trial.epochs] for number, trial in search.trials.items()}


@pytest.fixture(scope="module")
def stuck_search(knob_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search with a trial that hangs; the limit leaves a busy machine time to import torch."""
    folder = tmp_path_factory.mktemp("stuck") / "run"
    return knob_search(folder, "--space", "stuck", "--epoch-timeout", "15s", "--max-failures", "0")


def test_a_trial_that_hangs_is_ended_and_says_where_it_stood(stuck_search: Sitting) -> None:
    assert stuck_search.code == 0
    hanging = stuck_search.trials[1]
    assert (hanging.config["fault"], hanging.outcome, len(hanging.epochs)) == ("hangs", "failed", 1)
    assert hanging.reason.startswith("it hung: no epoch within --epoch-timeout; where it stood is in ")
    left = (trial_folder(stuck_search.folder, 1) / HANG_FILE).read_text()
    assert "Timeout" in left and "_misbehave" in left


def test_a_trial_that_hangs_costs_itself_alone(stuck_search: Sitting) -> None:
    outcomes = {number: trial.outcome for number, trial in stuck_search.trials.items()}
    assert outcomes == {0: "completed", 1: "failed", 2: "failed", 3: "completed"}
    for number in (0, 3):
        assert not hung(trial_folder(stuck_search.folder, number))


def test_a_trial_out_of_memory_costs_itself_and_says_so(stuck_search: Sitting) -> None:
    assert stuck_search.trials[2].reason == "MemoryError: no room for x=0.30000000000000004"
    assert "2 of 4 trials failed" in stuck_search.text


def test_a_hang_in_native_code_that_holds_the_interpreter_is_ended_too(tmp_path: Path) -> None:
    """A regular expression that backtracks for hours lets no other Python thread run."""
    code = (
        "import re, sys; from pathlib import Path; from search.watchdog import Watchdog\n"
        "with Watchdog(Path(sys.argv[1]), 1.0):\n"
        "    re.match(r'(a+)+$', 'a' * 60 + 'b')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=60, check=False, capture_output=True
    )
    assert ended.returncode == 1 and hung(tmp_path)


def test_a_full_disk_ends_the_search_with_a_message_and_no_trial_is_lost(knob_search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be written: the disk is full. No trial is lost: free"):
        knob_search(folder, "--space", "full_disk", "--max-concurrent", "1")
    kinds = [event["kind"] for event in read_events(folder / "events.jsonl")]
    assert "failed" not in kinds and kinds.count("done") == 1
    assert not list(folder.glob("trials/*/*.tmp"))

    second = knob_search(folder, "--resume")
    assert second.code == 0
    assert {number: trial.outcome for number, trial in second.trials.items()} == dict.fromkeys(range(3), "completed")
    for number, found in scores(second).items():
        expected = [score_of(second.trials[number].config["x"], epoch) for epoch in range(1, EPOCHS + 1)]
        assert found == expected
    loaded = (tmp_path / "run-cache" / "loaded.txt").read_text().splitlines()
    assert "0.2 1" in loaded  # the second trial went on from its first epoch


@pytest.fixture
def plan(prepared_tone_corpus: Path, tmp_path: Path) -> TrialPlan:
    task = {
        "corpus_folder": str(prepared_tone_corpus), "split": "tfds", "emotions": ["happy", "sad"], "seed": 0,
        "cache_dir": str(tmp_path / "cache"), "cache_gb": 1.0, "device": "cpu", "encoder": "", "precision": "auto",
        "cache_precision": "bf16", "judged": "validation",
    }  # fmt: skip
    return TrialPlan(str(tmp_path), "tests.search.knob_family", task, 0, EPOCHS, 1)


@pytest.mark.parametrize(
    ("error", "free", "is_full"),
    [
        (OSError(errno.ENOSPC, "x"), 10**12, True),
        (OSError(errno.EDQUOT, "x"), 10**12, True),
        (OSError(errno.EIO, "x"), 0, False),
        (RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos"), 0, True),
        (RuntimeError("something else"), 10**12, False),
    ],
)
def test_a_failed_checkpoint_is_the_disks_fault_only_if_it_is_full(
    plan: TrialPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free: int, is_full: bool
) -> None:
    import torch

    epochs = epochs_of_trial(0, {"x": 0.25}, plan)
    next(epochs)
    before = checkpoint_file(tmp_path, 0).read_bytes()

    def save(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", save)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": free}))
    with pytest.raises(DiskFullError if is_full else type(error)):
        next(epochs)
    assert checkpoint_file(tmp_path, 0).read_bytes() == before
    assert sorted(path.name for path in trial_folder(tmp_path, 0).iterdir()) == (
        ["checkpoint.pt"] if is_full else ["checkpoint.pt", "error.txt"]
    )


def test_the_limit_can_be_set_and_lifted() -> None:
    assert parse_arguments(["--epoch-timeout", "30m"]).epoch_timeout == 1800
    assert parse_arguments(["--epoch-timeout", "none"]).epoch_timeout == 0
    with pytest.raises(
        UserError, match=r"--epoch-timeout '5' is not accepted: it takes a time above 0 with its unit, o"
    ):
        parse_arguments(["--epoch-timeout", "5"])


@pytest.mark.parametrize(
    ("name", "kept"),
    [("leaderboard.csv", 0.9), ("leaderboard.md", 0.0), ("epochs.parquet", 0.3), ("study.journal", 0.97)],
)
def test_a_view_that_was_cut_is_made_again_from_the_record(
    knob_search: Search, finished_search: Sitting, tmp_path: Path, name: str, kept: float
) -> None:
    folder = Path(shutil.copytree(finished_search.folder, tmp_path / "run"))
    whole, table = (folder / name).read_bytes(), optuna_table(folder)
    (folder / name).write_bytes(whole[: int(len(whole) * kept)])
    again = knob_search(folder, "--resume")
    assert again.code == 0 and "is finished" in again.text
    if name == "study.journal":  # it notes when each trial was written
        pd.testing.assert_frame_equal(optuna_table(folder), table)
    else:
        assert (folder / name).read_bytes() == whole


@pytest.mark.parametrize("kept", [0.0, 0.99])
def test_a_configuration_that_was_cut_is_taken_from_before_its_last_change_and_said(
    knob_search: Search, finished_search: Sitting, tmp_path: Path, kept: float
) -> None:
    folder = Path(shutil.copytree(finished_search.folder, tmp_path / "run"))
    assert knob_search(folder, "--resume", "--trials", "5", "--max-concurrent", "1").code == 0
    whole = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(whole[: int(len(whole) * kept)])
    again = knob_search(folder, "--resume", "--trials", "6", "--max-concurrent", "1")
    assert again.code == 0 and "config.json was damaged" in again.text.replace("\n", "")
    assert len(again.trials) == 6 and again.config["plan"]["num_trials"] == 6
    assert "recovered" not in again.config


def test_a_configuration_without_one_before_it_is_refused_by_name(finished_search: Sitting, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_search.folder, tmp_path / "run"))
    (folder / ".config.json.before").unlink(missing_ok=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged .* Restore it from a copy, or start a new search"):
        load(folder)
