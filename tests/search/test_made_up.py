"""What a later sitting makes up for, or refuses by name: full disks, cut members of a search, other versions."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from search.full_disk import raise_if_full
from search.record import read_events
from search.study import trials_of
from search.trial import check_configurations, epochs_of_trial
from search.trial_plan import TrialPlan, error_file
from ser_data.errors import UserError
from ser_data.node_folder import FullDiskError
from ser_models.task import Task
from tests.search.conftest import Search
from tests.search.knob_search import Sitting


@pytest.fixture
def finished_copy(finished_search: Sitting, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_search.folder, tmp_path / "run"))


def test_a_cache_that_finds_no_room_is_no_fault_of_the_space_or_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task("corpus", "tfds", ("happy", "sad"), 0, str(tmp_path / "cache"), 1.0, "cpu")
    plan = TrialPlan(str(tmp_path), "tests.search.knob_family", task.to_dict(), 0, max_epochs=3, threads=1)
    monkeypatch.setattr("tests.search.knob_family.build", mock.Mock(side_effect=FullDiskError("the disk is full")))
    with pytest.raises(FullDiskError):
        check_configurations([{"x": 0.0}], plan)
    with pytest.raises(FullDiskError):
        list(epochs_of_trial(0, {"x": 0.25}, plan))
    assert not error_file(tmp_path, 0).exists()


def test_a_disk_that_is_full_while_the_board_is_written_ends_the_search_with_what_to_do(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "run" / "leaderboard.csv"))
    with monkeypatch.context() as patch:
        patch.setattr("search.session.write_leaderboard", mock.Mock(side_effect=full))
        with pytest.raises(UserError, match=r"leaderboard.csv cannot be written .*free some disk space.*--resume"):
            knob_search(tmp_path / "run", "--space", "plain", "--max-concurrent", "1")
    again = knob_search(tmp_path / "run", "--resume")
    assert again.code == 0
    assert {trial.outcome for trial in again.trials.values()} == {"completed"}


def test_other_errors_of_the_system_stay_what_they_are() -> None:
    raise_if_full(OSError(errno.EACCES, "Permission denied"), Path("run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("arguments"), r"config.json is damaged \(it lacks arguments\)\. Restore it from"),
        (
            lambda config: config["arguments"].update(warp=3),
            r"options that this version does not know: warp\. Resume it with the version that wrote it",
        ),
    ],
)
def test_a_config_without_its_parts_or_of_a_later_version_is_refused_by_name(
    knob_search: Search, finished_copy: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    config = json.loads((finished_copy / "config.json").read_text())
    change(config)
    (finished_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        knob_search(finished_copy, "--resume")


def test_a_search_over_several_spaces_makes_up_for_a_board_and_a_members_record_that_were_cut(
    knob_search: Search, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert knob_search(folder, "--space", "plain,second", "--trials", "4", "--max-concurrent", "1").code == 0
    board = (folder / "leaderboard.csv").read_bytes()
    (folder / "leaderboard.csv").write_bytes(board[:100])
    assert "is finished" in knob_search(folder, "--resume").text
    assert (folder / "leaderboard.csv").read_bytes() == board
    record = folder / "second" / "events.jsonl"
    record.write_bytes(record.read_bytes()[: int(0.7 * record.stat().st_size)])
    assert knob_search(folder, "--resume", "--max-concurrent", "1").code == 0
    for space in ("plain", "second"):
        trials = trials_of(read_events(folder / space / "events.jsonl"))
        assert {trial.outcome for trial in trials.values()} == {"completed"}
