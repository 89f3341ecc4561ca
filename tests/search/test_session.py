"""Whole searches on Ray: how they end, how they go on, and what a trial, a worker or the driver may do wrong."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from search.ending import remove_checkpoints
from search.finalists.final_round import Outcome
from search.proposals import Proposer
from search.record import Record, read_events
from search.run_folder import claim
from search.space import load_space
from search.study import Study
from search.trial_plan import checkpoint_file, error_file
from search.tune_adapters import SittingStopper
from ser_data.errors import UserError
from tests.search.boards import FAIR, GOOD, POOR, epoch, trial
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_family import hits_of, score_of
from tests.search.knob_search import Sitting, kinds, knob_spaces

EPOCHS_OF_SLOW = 4


def expected_configs(space: str, trials: int) -> list[dict[str, Any]]:
    """What an uninterrupted search over *space* tries, without Ray."""
    with knob_spaces():
        proposer = Proposer(load_space(space), sampler="random", seed=0, study_name="x")
    return [proposer.ask().config for _ in range(trials)]


def assert_every_trial_ran_once_to_its_end(folder: Path, space: str, trials: int, epochs: int) -> None:
    """The record is what an uninterrupted search leaves: same configurations, each epoch once, with its score."""
    events = read_events(folder / "events.jsonl")
    suggested = [event for event in events if event["kind"] == "suggested"]
    assert [event["number"] for event in suggested] == list(range(trials))
    assert [event["config"] for event in suggested] == expected_configs(space, trials)
    for event in suggested:
        reports = [e["report"] for e in events if e["kind"] == "epoch" and e["number"] == event["number"]]
        assert [report["epoch"] for report in reports] == list(range(1, epochs + 1))
        assert [report["val_uar"] for report in reports] == [
            score_of(event["config"]["x"], epoch) for epoch in range(1, epochs + 1)
        ]
    assert sorted(event["number"] for event in events if event["kind"] == "done") == list(range(trials))


def test_a_search_runs_to_its_end_and_names_what_it_left(finished_search: Sitting) -> None:
    assert finished_search.code == 0
    assert_every_trial_ran_once_to_its_end(finished_search.folder, "plain", trials=4, epochs=3)
    assert kinds(finished_search.folder)[-1] == "ended"
    shown = {path.name for path in finished_search.folder.iterdir() if path.suffix != ".lock" and path.name[0] != "."}
    assert shown == {
        "best", "config.json", "epochs.parquet", "events.jsonl", "leaderboard.csv", "leaderboard.html",
        "leaderboard.md", "study.journal", "trials",
    }  # fmt: skip
    assert "ended by: trials" in finished_search.text
    assert str(finished_search.folder / "leaderboard.html") in finished_search.text
    assert f"python search/predict.py {finished_search.folder / 'best'} CLIP" in finished_search.text
    assert finished_search.config["data"]["actors"]["test"] > 0
    assert f"python search/run.py --resume {finished_search.folder} --finalists 3" in finished_search.text


def test_a_search_says_what_it_learns_from(finished_search: Sitting) -> None:
    assert "48 clips of 4 actors to train on, 24 of 2 to select on (split speaker_kfold:4:1)" in finished_search.text
    assert finished_search.config["data"]["val_totals"] == [[2] * 6] * 2


def test_a_line_tells_of_each_finished_trial_and_ray_says_nothing(finished_search: Sitting) -> None:
    lines = [line for line in finished_search.text.splitlines() if " completed: " in line]
    assert len(lines) == 4
    assert "after 3 epochs" in lines[0]
    for word in ("Traceback", "ray::", "WARNING", "ERROR", "ImplicitFunc"):
        assert word not in finished_search.text


def test_known_good_configurations_go_first(finished_search: Sitting) -> None:
    assert [finished_search.trials[number].origin for number in range(4)] == ["known-good"] + ["random"] * 3
    assert finished_search.trials[0].config == {"x": 0.25}


def test_the_bundle_is_of_the_best_trial_and_its_best_epoch(finished_search: Sitting) -> None:
    board = pd.read_csv(finished_search.folder / "leaderboard.csv")
    provenance = dict(
        line.split("=", 1) for line in (finished_search.folder / "best" / "provenance.txt").read_text().splitlines()
    )
    assert provenance["trial_id"] == board["trial_id"].iloc[0]
    assert float(provenance["val_uar"]) == board["val_uar"].iloc[0]
    assert (provenance["epoch"], provenance["judged_on_test"]) == ("2", "False")


def test_of_the_checkpoints_only_the_best_trials_is_kept(finished_search: Sitting) -> None:
    best = pd.read_csv(finished_search.folder / "leaderboard.csv")["trial_id"].iloc[0]
    assert [path.parent.name for path in (finished_search.folder / "trials").glob("*/*")] == [best]


@pytest.mark.usefixtures("no_ray")
def test_a_finished_search_says_so_and_stays_as_it_is(knob_search: Search, finished_search: Sitting) -> None:
    before = contents(finished_search.folder)
    for options in (["--resume"], ["--resume", "--trials", "3"]):
        again = knob_search(finished_search.folder, *options)
        assert again.code == 0
        assert f"{finished_search.folder} is finished (4 trials): see" in again.text
        assert "A larger --trials or --time-budget" in again.text
    assert contents(finished_search.folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but Optuna's journal, which notes when it was written."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.*") if path.suffix != ".journal"}


@pytest.mark.usefixtures("no_ray")
def test_the_same_command_again_is_a_resume(knob_search: Search, finished_search: Sitting) -> None:
    again = knob_search(finished_search.folder, "--space", "plain", "--max-concurrent", "1")
    assert again.code == 0 and "is finished (4 trials)" in again.text


@pytest.mark.usefixtures("no_ray")
def test_another_command_on_the_same_folder_is_refused(knob_search: Search, finished_search: Sitting) -> None:
    with pytest.raises(UserError, match=r"holds another search \(space 'plain' there, 'slow' now\).*--resume"):
        knob_search(finished_search.folder, "--space", "slow")


@pytest.mark.usefixtures("no_ray")
def test_a_command_that_failed_on_its_data_does_not_claim_the_folder(
    knob_search: Search, finished_search: Sitting, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio in"):
        knob_search(tmp_path / "run", "--space", "plain", "--data", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"--grace 9 is out of range"):  # another search, and no word of that
        knob_search(tmp_path / "run", "--space", "plain", "--scheduler", "asha", "--grace", "9")


def test_a_command_that_asked_for_too_many_cores_can_be_given_again_with_fewer(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"--cpus-per-trial 99 is more than this cluster has \(2\)"):
        knob_search(tmp_path / "run", "--space", "plain", "--cpus-per-trial", "99")
    threads: list[int] = []
    monkeypatch.setattr("search.session.tune_study", lambda study, plan, *_, **__: threads.append(plan.threads))
    monkeypatch.setattr("search.session.ending_of", lambda *_: "interrupted")
    for options in (["--space", "plain"], ["--resume"]):
        knob_search(tmp_path / "run", *options, "--cpus-per-trial", "2")
    assert threads == [2, 2]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test whose search gets as far as Ray."""

    def sit(*_: object) -> str:
        raise AssertionError("the search was about to start Ray")

    monkeypatch.setattr("search.session._sit", sit)


@pytest.fixture
def copy_of_finished(finished_search: Sitting, tmp_path: Path) -> Path:
    shutil.copytree(finished_search.folder, tmp_path / "run")
    return tmp_path / "run"


def test_two_configurations_with_equal_scores_are_warned_of_at_the_end(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sit(search: object, data: object, record: Record, console: object, tracker: object) -> tuple[str, Outcome]:
        for number, idle in enumerate((1, 2)):
            config = {"x": 0.5, "idle": idle}
            names = {"number": number, "params": config, "config": config, "origin": "random"}
            record.append({"kind": "suggested", **names})
            record.append({"kind": "epoch", "number": number, "report": epoch(1, hits_of(0.5))})
            record.append({"kind": "done", "number": number})
        return "trials", Outcome()

    monkeypatch.setattr("search.session._sit", sit)
    search = knob_search(tmp_path / "run", "--space", "plain")
    assert search.code == 0
    assert (
        "warning: t0000 and t0001 have different configurations and equal losses and scores at every epoch: a "
        "parameter that differs between them may have no effect"
    ) in search.text


def test_the_best_finished_trial_keeps_its_checkpoint_while_a_running_one_leads(tmp_path: Path) -> None:
    """The running one may still fail, and then the best of the finished is what there is to export."""
    trials = [
        trial(0, [epoch(1, FAIR)]), trial(1, [epoch(1, POOR)], "stopped"), trial(2, [epoch(1, GOOD)], None),
        trial(3, [epoch(1, GOOD)], "failed"),
    ]  # fmt: skip
    for each in trials:
        path = checkpoint_file(tmp_path, each.number)
        path.parent.mkdir(parents=True)
        path.touch()
    error_file(tmp_path, 3).write_text("why")
    remove_checkpoints(tmp_path, SimpleNamespace(trials={each.number: each for each in trials}))  # type: ignore[arg-type]
    assert sorted(path.relative_to(tmp_path / "trials").as_posix() for path in (tmp_path / "trials").glob("*/*")) == [
        "t0000/checkpoint.pt", "t0002/checkpoint.pt", "t0003/error.txt",
    ]  # fmt: skip
    assert not (tmp_path / "trials" / "t0001").exists()


def _end_by_time(folder: Path, seconds: float) -> None:
    """Make the finished search in *folder* one of 10 trials that its time budget ended after *seconds*."""
    config = json.loads((folder / "config.json").read_text())
    config["plan"]["num_trials"] = 10
    config["arguments"]["time_budget"] = seconds
    (folder / "config.json").write_text(json.dumps(config))
    with Record(folder / "events.jsonl") as record:
        start = next(event["at"] for event in record.events if event["kind"] == "sitting")
        record.append({"kind": "ended", "reason": "time budget", "at": start + seconds})


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("options", "goes_on"),
    [
        ([], False),
        (["--time-budget", "10h"], False),
        (["--time-budget", "3h"], False),
        (["--time-budget", "11h"], True),
    ],
)
def test_a_search_whose_time_is_used_up_goes_on_with_more_time_only(
    knob_search: Search, copy_of_finished: Path, options: list[str], goes_on: bool
) -> None:
    _end_by_time(copy_of_finished, 36_000.0)
    if goes_on:
        with pytest.raises(AssertionError, match="about to start Ray"):
            knob_search(copy_of_finished, "--resume", *options)
        assert json.loads((copy_of_finished / "config.json").read_text())["arguments"]["time_budget"] == 39_600.0
    else:
        assert "is finished" in knob_search(copy_of_finished, "--resume", *options).text


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("last", "goes_on"), [("interrupted", True), ("trials", False), ("the end of the grid", False)]
)
def test_only_what_ended_for_good_is_called_finished(
    knob_search: Search, copy_of_finished: Path, last: str, goes_on: bool
) -> None:
    with Record(copy_of_finished / "events.jsonl") as record:
        record.append({"kind": "ended", "reason": last, "at": record.events[-1]["at"] + 1})
    if goes_on:
        with pytest.raises(AssertionError, match="about to start Ray"):
            knob_search(copy_of_finished, "--resume")
    else:
        assert "is finished" in knob_search(copy_of_finished, "--resume").text


@pytest.mark.usefixtures("no_ray")
def test_a_search_killed_before_its_last_word_is_not_finished(knob_search: Search, copy_of_finished: Path) -> None:
    record = copy_of_finished / "events.jsonl"
    record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(AssertionError, match="about to start Ray"):
        knob_search(copy_of_finished, "--resume")


def test_a_torn_record_is_cut_said_and_gone_on_with(knob_search: Search, copy_of_finished: Path) -> None:
    """A kill in the middle of writing, and no trial left: what remains is to end it properly."""
    record = copy_of_finished / "events.jsonl"
    record.write_bytes(record.read_bytes()[:-7])
    shutil.rmtree(copy_of_finished / "best")
    again = knob_search(copy_of_finished, "--resume")
    assert again.code == 0
    assert "the record ended in a torn line of" in again.text
    assert (copy_of_finished / "best" / "provenance.txt").is_file()
    assert kinds(copy_of_finished)[-2:] == ["sitting", "ended"]


def test_a_finished_search_goes_on_with_more_trials(knob_search: Search, copy_of_finished: Path) -> None:
    longer = knob_search(copy_of_finished, "--resume", "--trials", "6", "--max-concurrent", "1")
    assert longer.code == 0
    assert_every_trial_ran_once_to_its_end(copy_of_finished, "plain", trials=6, epochs=3)
    assert len(pd.read_csv(copy_of_finished / "leaderboard.csv")) == 6


@pytest.fixture(scope="module")
def faulty_search(knob_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search in which every trial but one does something wrong."""
    return knob_search(tmp_path_factory.mktemp("faulty") / "run", "--space", "faulty")


def _number(search: Sitting, fault: str) -> int:
    return next(number for number, trial in search.trials.items() if trial.config["fault"] == fault)


@pytest.mark.parametrize(
    ("fault", "reason", "epochs"),
    [
        ("raises", "ValueError: a fault in the second epoch, x is 0.2", 1),
        ("nan", "epoch 2: val_uar is nan, not a finite number", 1),
        ("no_score", "reported no val_uar, val_accuracy, val_macro_f1", 0),
        ("ends_early", "ended after 1 epochs", 1),
    ],
)
def test_a_trial_that_fails_costs_itself_and_says_why(
    faulty_search: Sitting, fault: str, reason: str, epochs: int
) -> None:
    failed = faulty_search.trials[_number(faulty_search, fault)]
    assert (failed.outcome, len(failed.epochs)) == ("failed", epochs)
    assert reason in failed.reason
    board = pd.read_csv(faulty_search.folder / "leaderboard.csv").set_index("trial_id")
    assert (board.loc[failed.trial_id, "status"], board.loc[failed.trial_id, "reason"]) == ("failed", failed.reason)


def test_a_search_interrupted_before_ray_runs_says_how_to_go_on(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("search.session.load_data", prepare)
        first = knob_search(tmp_path / "run", "--space", "plain")
    assert first.code == 130
    assert f"nothing is lost. Go on with:\n  python search/run.py --resume {tmp_path / 'run'}" in first.text
    monkeypatch.setattr("search.session._sit", lambda *_: ("interrupted", Outcome()))
    assert knob_search(tmp_path / "run", "--resume").code == 130


def test_failed_trials_are_counted_and_the_search_succeeds(faulty_search: Sitting) -> None:
    assert faulty_search.code == 0
    assert "4 of 6 trials failed; t0001: ValueError: a fault in the second epoch, x is 0.2" in faulty_search.text
    assert "Traceback" not in faulty_search.text


def test_the_traceback_of_a_failed_trial_is_kept_in_its_folder(faulty_search: Sitting) -> None:
    text = (faulty_search.folder / "trials" / f"t{_number(faulty_search, 'raises'):04d}" / "error.txt").read_text()
    assert "Traceback" in text and "in _misbehave" in text


def test_a_killed_worker_is_retried_from_its_checkpoint(faulty_search: Sitting) -> None:
    retried = faulty_search.trials[_number(faulty_search, "worker_dies_once")]
    assert (retried.outcome, [report["epoch"] for report in retried.epochs]) == ("completed", [1, 2, 3])
    cache = Path(faulty_search.config["arguments"]["cache_dir"])
    assert (cache / "died.txt").exists()
    loaded = [line.split() for line in (cache / "loaded.txt").read_text().splitlines()]
    assert [str(retried.config["x"]), "1"] in loaded  # a checkpoint of the first epoch was taken up


def test_nothing_succeeded_exits_with_1_and_has_a_board(knob_search: Search, tmp_path: Path) -> None:
    options = ["--fix", "fault=nan", "--trials", "2", "--max-concurrent", "1"]
    failed = knob_search(tmp_path / "run", "--space", "faulty", *options)
    assert failed.code == 1
    assert "2 of 2 trials failed" in failed.text
    assert "use the winner" not in failed.text
    assert not (tmp_path / "run" / "best").exists()
    assert list(pd.read_csv(tmp_path / "run" / "leaderboard.csv")["status"]) == ["failed", "failed"]


def test_a_space_with_a_corner_that_cannot_train_is_refused_and_no_trial_fails(
    knob_search: Search, tmp_path: Path
) -> None:
    message = r"cannot be trained, so no trial was started.*x=1\.0 needs more than there is.*'fault': 'never_builds'"
    with pytest.raises(UserError, match=message):
        knob_search(tmp_path / "run", "--space", "too_wide", "--max-concurrent", "1")
    assert {"failed", "epoch", "ended"}.isdisjoint(kinds(tmp_path / "run"))


def test_a_fault_of_the_search_itself_is_raised_as_it_is_and_no_trial_is_blamed(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Record.append

    def full(self: Record, event: dict[str, Any]) -> None:
        if event["kind"] == "epoch" and event["report"]["epoch"] == 2:
            raise UserError("the disk is full")
        append(self, event)

    monkeypatch.setattr(Record, "append", full)
    with pytest.raises(UserError, match=r"^the disk is full$"):
        knob_search(tmp_path / "run", "--space", "plain", "--max-concurrent", "1")
    assert kinds(tmp_path / "run") == ["format", "sitting", "suggested", "epoch"]


@contextlib.contextmanager
def out_of_time_after(num_epochs: int) -> Iterator[None]:
    """A sitting's time is up once *num_epochs* reports have come in, however long that takes."""
    num_reports = 0
    report = Study.report

    def counted(self: Study, number: int, metrics: Any) -> bool:
        nonlocal num_reports
        num_reports += 1
        return report(self, number, metrics)

    is_over = property(lambda self: num_reports >= num_epochs)
    with mock.patch.object(Study, "report", counted), mock.patch.object(SittingStopper, "out_of_time", is_over):
        yield


def test_a_time_budget_ends_with_scores_kept_and_more_time_goes_on(knob_search: Search, tmp_path: Path) -> None:
    options = ["--time-budget", "10h", "--trials", "3", "--max-concurrent", "1"]
    with out_of_time_after(4):
        first = knob_search(tmp_path / "run", "--space", "plain", *options)
    assert first.code == 0
    assert "ended by: time budget" in first.text
    board = pd.read_csv(tmp_path / "run" / "leaderboard.csv").set_index("trial_id")
    assert dict(board["status"]) == {"t0000": "completed", "t0001": "stopped"}
    assert dict(board["epochs"]) == {"t0000": 3, "t0001": 1}
    assert (tmp_path / "run" / "best" / "provenance.txt").is_file()

    second = knob_search(tmp_path / "run", "--resume", "--time-budget", "20h", "--max-concurrent", "1")
    assert second.code == 0 and "ended by: trials" in second.text
    assert_every_trial_ran_once_to_its_end(tmp_path / "run", "plain", trials=3, epochs=3)


@pytest.mark.slow
def test_a_search_that_is_interrupted_and_then_killed_ends_where_an_uninterrupted_one_ends(
    command: Callable[..., Command], knob_search: Search, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    first = command(
        "--space", "slow", "--out", str(folder), "--data", str(prepared_tone_corpus), "--cache-dir", str(cache),
        "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none",
    )  # fmt: skip
    first.wait_for_epochs(folder, more=3)
    first.type_ctrl_c()
    code, out, err = first.end()
    assert code == 130, err
    assert f"interrupted; nothing is lost. Go on with:\n  python search/run.py --resume {folder}" in out
    assert "Traceback" not in out + err
    assert kinds(folder)[-1] == "ended" and "failed" not in kinds(folder)
    board = pd.read_csv(folder / "leaderboard.csv")
    assert set(board["status"]) <= {"running", "completed"} and "running" in set(board["status"])
    assert "The search is not finished." in (folder / "leaderboard.md").read_text()

    second = command("--resume", str(folder), "--cache-dir", str(cache))
    second.wait_for_epochs(folder, more=3)
    second.kill()
    assert kinds(folder)[-1] != "ended"

    last = knob_search(folder, "--resume")
    assert last.code == 0
    assert_every_trial_ran_once_to_its_end(folder, "slow", trials=6, epochs=EPOCHS_OF_SLOW)
    assert kinds(folder).count("sitting") == 3
    assert (folder / "best" / "provenance.txt").is_file()


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("options", [["--resume", "--trials", "9"], ["--space", "plain", "--trials", "9"]])
def test_a_folder_that_another_process_writes_is_left_as_it_is(
    knob_search: Search, copy_of_finished: Path, options: list[str]
) -> None:
    before = (copy_of_finished / "config.json").read_text()
    with (
        Record(copy_of_finished / "events.jsonl"),
        pytest.raises(UserError, match="is being written by another search that still runs"),
    ):
        knob_search(copy_of_finished, *options)
    assert (copy_of_finished / "config.json").read_text() == before


@pytest.mark.usefixtures("no_ray")
def test_a_new_folder_that_another_process_has_claimed_is_refused(knob_search: Search, tmp_path: Path) -> None:
    claimed = claim(tmp_path / "run")
    with pytest.raises(UserError, match="is being written by another search that still runs"):
        knob_search(tmp_path / "run", "--space", "plain")
    assert not (tmp_path / "run" / "config.json").exists()
    claimed.release()
    with pytest.raises(AssertionError, match="about to start Ray"):
        knob_search(tmp_path / "run", "--space", "plain")
