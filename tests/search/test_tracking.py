"""Weights & Biases as a view: what is sent, when nothing is, and that its faults never reach the search."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from search.study import StudyTrial
from search.tracking.tracker import Tracker, choose_mode
from ser_data.errors import UserError
from tests.search.boards import FAIR, GOOD, POOR, config_json, epoch, trial
from tests.search.offline_runs import runs_by_id


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No key, no mode, and a netrc of this test's own; returns its path."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


@pytest.mark.usefixtures("no_key")
def test_without_a_key_runs_are_kept_offline_and_said_so() -> None:
    mode, line = choose_mode(None)
    assert mode == "offline"
    assert "no key found" in line and "wandb login" in line


@pytest.mark.usefixtures("no_key")
def test_a_key_in_the_environment_means_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert choose_mode(None) == ("online", "W&B: online")


def test_a_key_in_netrc_means_online_for_its_own_host(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_key.write_text("machine api.wandb.ai\n  login user\n  password " + "k" * 40 + "\n")
    no_key.chmod(0o600)
    assert choose_mode(None)[0] == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    assert choose_mode(None)[0] == "offline"
    no_key.write_text("machine wandb.example.org login user password " + "k" * 40)
    assert choose_mode(None)[0] == "online"


def test_a_damaged_netrc_counts_as_no_key(no_key: Path) -> None:
    no_key.write_text("machine\n{")
    assert choose_mode(None)[0] == "offline"


@pytest.mark.usefixtures("no_key")
@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_is_obeyed_and_said(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert choose_mode(None) == (mode, f"W&B: {mode} (WANDB_MODE)")


@pytest.mark.usefixtures("no_key")
def test_what_is_asked_for_wins_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode("offline") == ("offline", "")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert choose_mode("online") == ("online", "")


@pytest.mark.usefixtures("no_key")
def test_online_without_a_key_is_refused_before_wandb_could_ask_for_one() -> None:
    with pytest.raises(UserError, match=r"--wandb online: no key was found.*`wandb login`.*--wandb offline"):
        choose_mode("online")


class FakeRun:
    """Keeps what a run is told."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.summary: dict[str, Any] = {}
        self.tags: tuple[str, ...] = tuple(settings.get("tags", ()))
        self.starting_step = 0
        self.exit_code: int | None = None

    def log(self, values: dict[str, Any], *, step: int, commit: bool) -> None:
        assert commit, "an epoch would be seen with the next one only"
        assert self.exit_code is None, "logged to after it was finished"
        self.logged.append((step, values))

    def finish(self, *, exit_code: int) -> None:
        self.exit_code = exit_code

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.logged]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeRun]]:
    """``wandb.init`` keeps runs here, by id."""
    started: dict[str, FakeRun] = {}

    def init(**settings: Any) -> FakeRun:
        assert settings["id"] not in started, "a run was opened twice in one sitting"
        return started.setdefault(settings["id"], FakeRun(**settings))

    monkeypatch.setattr("wandb.init", init)
    yield started


def tracker(folder: Path, said: list[str], mode: str = "offline") -> Tracker:
    return Tracker(folder, config_json(), mode=mode, project="p", entity="e", say=said.append)


def play(to: Tracker, found: StudyTrial, end: str | None = "done") -> None:
    """The events of a trial's life in one sitting."""
    to.on_event(found, {"kind": "suggested", "number": found.number})
    for report in found.epochs:
        to.on_event(found, {"kind": "epoch", "number": found.number, "report": report})
    if end is not None:
        to.on_event(found, {"kind": end, "number": found.number})


def test_each_trial_has_a_run_of_its_own_grouped_by_search(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    with tracker(tmp_path / "run-1", []) as open_tracker:
        for number in range(3):
            play(open_tracker, trial(number, [epoch(1, FAIR)], x=0.5))
    assert list(runs) == ["beef0123-t0000", "beef0123-t0001", "beef0123-t0002"]
    settings = runs["beef0123-t0001"].settings
    assert (settings["group"], settings["project"], settings["entity"]) == ("beef0123", "p", "e")
    assert (settings["name"], settings["job_type"], settings["mode"]) == ("run-1-t0001", "toy", "offline")
    assert settings["resume"] == "allow"
    assert {"mfcc", "tfds"} <= set(settings["tags"])


def test_a_run_carries_configuration_and_provenance(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    with tracker(tmp_path, []) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR)], x=0.5, network="cnn"))
    config = runs["beef0123-t0000"].settings["config"]
    assert config["x"] == 0.5 and config["network"] == "cnn"
    assert {config[key] for key in ("space", "split", "commit", "seed")} == {"toy", "tfds", "0123456789ab", 3}


def test_every_epoch_is_logged_at_its_own_step_without_the_hits(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    with tracker(tmp_path, []) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR), epoch(2, GOOD), epoch(3, POOR)]))
    run = runs["beef0123-t0000"]
    assert run.steps == [1, 2, 3]
    assert [values["val_uar"] for _, values in run.logged] == pytest.approx([0.5, 10 / 12, 4 / 12])
    assert {"train_loss", "val_loss", "val_accuracy", "val_macro_f1", "seconds"} <= set(run.logged[0][1])
    assert "val_hits" not in run.logged[0][1]


def test_how_a_trial_ended_is_on_its_run(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    with tracker(tmp_path, []) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR), epoch(2, GOOD)]), "done")
        play(open_tracker, trial(1, [epoch(1, POOR)], "stopped", reason="rung 1"), "stopped")
        play(open_tracker, trial(2, [], "failed", reason="ValueError: x"), "failed")
        play(open_tracker, trial(3, [epoch(1, POOR)], None), None)
    ended = {number: runs[f"beef0123-t{number:04d}"] for number in range(4)}
    assert [run.exit_code for run in ended.values()] == [0, 0, 1, 255]  # 255: cut off with its sitting, may go on
    best = {"best_val_uar": pytest.approx(10 / 12), "best_epoch": 2}
    assert ended[0].summary == {"status": "completed", "reason": "", **best}
    assert ended[1].summary["reason"] == "rung 1"
    assert ended[2].summary == {"status": "failed", "reason": "ValueError: x"}
    assert ended[3].summary["status"] == "interrupted"
    own = [set(run.tags) - {"mfcc", "tfds"} for run in ended.values()]  # grace is 1, of 3 epochs: one rung
    assert own == [{"completed", "rung-1"}, {"stopped", "rung-1"}, {"failed"}, {"rung-1"}]


def test_a_trial_that_an_earlier_sitting_began_has_all_its_epochs_in_order(
    runs: dict[str, FakeRun], tmp_path: Path
) -> None:
    begun = trial(0, [epoch(1, POOR), epoch(2, FAIR)], None)
    with tracker(tmp_path, []) as open_tracker:
        begun.epochs.append(epoch(3, GOOD))
        open_tracker.on_event(begun, {"kind": "epoch", "number": 0, "report": begun.epochs[2]})
        begun.epochs.append(epoch(4, FAIR))
        open_tracker.on_event(begun, {"kind": "epoch", "number": 0, "report": begun.epochs[3]})
        begun.outcome = "completed"
        open_tracker.on_event(begun, {"kind": "done", "number": 0})
    assert runs["beef0123-t0000"].steps == [1, 2, 3, 4]


def test_a_trial_that_ended_without_its_run_is_sent_whole_in_the_next_sitting_and_only_then(
    runs: dict[str, FakeRun], tmp_path: Path
) -> None:
    """As after a kill between the record's word and W&B's file."""
    ended = [trial(number, [epoch(1, POOR), epoch(2, FAIR)]) for number in range(3)]
    running = trial(3, [epoch(1, POOR)], None)
    with tracker(tmp_path, []) as open_tracker:
        play(open_tracker, ended[0])
    with (tmp_path / "wandb" / "sent.txt").open("a") as file:
        file.write("t00")  # torn
    runs.clear()
    with tracker(tmp_path, []) as open_tracker:
        open_tracker.make_up_for([*ended, running])
    assert {name: (run.steps, run.exit_code) for name, run in runs.items()} == {
        "beef0123-t0001": ([1, 2], 0), "beef0123-t0002": ([1, 2], 0),
    }  # fmt: skip
    assert (runs["beef0123-t0002"].summary["status"]) == "completed"
    runs.clear()
    with tracker(tmp_path, []) as open_tracker:
        open_tracker.make_up_for([ended[0], ended[2]])
    assert runs == {}
    with tracker(tmp_path, [], mode="disabled") as open_tracker:
        open_tracker.make_up_for(ended)
    assert runs == {}


def test_a_trial_that_went_on_has_one_real_offline_run_with_all_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_DIR")
    begun = trial(0, [epoch(1, POOR), epoch(2, FAIR)], None)
    with tracker(tmp_path, []) as open_tracker:
        play(open_tracker, begun, None)
    begun.epochs.append(epoch(3, GOOD))
    with tracker(tmp_path, []) as open_tracker:
        open_tracker.on_event(begun, {"kind": "epoch", "number": 0, "report": begun.epochs[2]})
        open_tracker.on_event(begun, {"kind": "done", "number": 0})
    wandb.teardown()  # its service writes the end of a file after a run has finished
    assert sorted(runs_by_id(tmp_path).items()) == [("beef0123-t0000", [[1, 2, 3]])]


def test_epochs_of_trials_side_by_side_stay_in_order(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    pair = [trial(number, [epoch(number_, FAIR) for number_ in (1, 2, 3)]) for number in range(2)]
    with tracker(tmp_path, []) as open_tracker:
        for step in range(3):
            for found in pair:
                report = found.epochs[step]
                open_tracker.on_event(found, {"kind": "epoch", "number": found.number, "report": report})
    assert [run.steps for run in runs.values()] == [[1, 2, 3], [1, 2, 3]]


def test_disabled_sends_nothing(runs: dict[str, FakeRun], tmp_path: Path) -> None:
    with tracker(tmp_path, [], mode="disabled") as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR)]))
    assert runs == {}


@pytest.mark.parametrize("error", [RuntimeError("no route to host\nand more"), ValueError()])
def test_a_fault_of_wandb_is_said_once_and_reaches_nobody(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def init(**settings: Any) -> FakeRun:
        calls.append(settings["id"])
        raise error

    monkeypatch.setattr("wandb.init", init)
    said: list[str] = []
    with tracker(tmp_path, said) as open_tracker:
        for number in range(3):
            play(open_tracker, trial(number, [epoch(1, FAIR), epoch(2, GOOD)]))
    first_line = str(error).partition("\n")[0]
    assert said == [
        f"W&B: {type(error).__name__}: {first_line}; the search goes on, and nothing is lost",
        "W&B: not everything could be sent, and nothing is lost. Upload it with: python search/sync_wandb.py "
        f"{tmp_path}",
    ]
    assert len(calls) == 1


def test_a_fault_in_the_middle_gives_up_the_clients_service_with_the_runs_that_are_open(
    runs: dict[str, FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would refuse to open them again; what is lost with it comes from the record."""
    given_up: list[int] = []
    monkeypatch.setattr("wandb.teardown", lambda *, exit_code: given_up.append(exit_code))
    said: list[str] = []
    with tracker(tmp_path, said) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR)], None), None)
        play(open_tracker, trial(1, [{"no": "epoch"}], None), None)
    assert len(said) == 1 and "KeyError" in said[0]
    assert given_up == [255]


def test_closing_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()

    class StuckRun(FakeRun):
        def finish(self, *, exit_code: int) -> None:
            stuck.wait()

    monkeypatch.setattr("wandb.init", lambda **settings: StuckRun(**settings))
    monkeypatch.setattr("search.tracking.tracker.CLOSE_SECONDS", 0.05)
    said: list[str] = []
    with tracker(tmp_path, said) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR)]))
    stuck.set()
    assert [line.partition(",")[0] for line in said] == ["W&B: not everything could be sent"]


def test_the_real_client_keeps_one_offline_run_per_trial_in_the_searchs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_DIR")
    said: list[str] = []
    with tracker(tmp_path, said) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR), epoch(2, GOOD, precision="bf16")], x=0.123456789))
        play(open_tracker, trial(1, [epoch(1, POOR)], "stopped", reason="rung 1"), "stopped")
    assert said == []
    wandb.teardown()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert sorted(path.stem for path in files) == ["run-beef0123-t0000", "run-beef0123-t0001"]
    # no Python reader exists for these files; strings in them are stored as they are
    content = (tmp_path / "wandb").glob("offline-run-*-beef0123-t0000/run-*.wandb").__next__().read_bytes()
    for text in (b"beef0123", b"0.123456789", b"val_uar", b"clips_per_second", b"0123456789ab", b"bf16", b"completed"):
        assert text in content
    assert b"val_hits" not in content


def test_text_that_a_trial_says_of_itself_is_logged_and_random_weights_are_marked(
    runs: dict[str, FakeRun], tmp_path: Path
) -> None:
    config = config_json()
    config["plan"]["encoder"] = {"label": "tiny (random weights)", "pretrained": False}
    with Tracker(tmp_path, config, mode="offline", project="p", entity="e", say=lambda _: None) as open_tracker:
        play(open_tracker, trial(0, [epoch(1, FAIR, precision="bf16", trained_parameters=7)]))
    run = runs["beef0123-t0000"]
    assert (run.logged[0][1]["precision"], run.logged[0][1]["trained_parameters"]) == ("bf16", 7)
    assert "random-weights" in run.settings["tags"]
    assert run.settings["config"]["encoder"] == "tiny (random weights)"


def test_a_run_has_its_own_of_several_encoders_and_the_mark_of_its_weights(
    runs: dict[str, FakeRun], tmp_path: Path
) -> None:
    config = config_json()
    labels = {"a/x": True, "b (random weights)": False}
    config["plan"]["encoders"] = [{"label": label, "pretrained": pretrained} for label, pretrained in labels.items()]
    with Tracker(tmp_path, config, mode="offline", project="p", entity="e", say=lambda _: None) as open_tracker:
        for number, label in enumerate(labels):
            play(open_tracker, trial(number, [epoch(1, FAIR)], encoder=label))
    settings = [runs[f"beef0123-t000{number}"].settings for number in range(2)]
    assert [each["config"]["encoder"] for each in settings] == list(labels)
    assert ["random-weights" in each["tags"] for each in settings] == [False, True]
