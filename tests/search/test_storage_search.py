"""Searches whose runs lie in object storage: the real command, a real S3 client, a server that fails if told."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from search.cluster.joining import Cluster
from search.record import read_events
from search.study import trials_of
from ser_data.errors import UserError
from ser_data.object_store import open_store
from tests.s3_server import ACCESS, S3Server, s3_server
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_search import Sitting, kinds, knob_spaces, sit


@pytest.fixture(scope="module")
def _server() -> Iterator[S3Server]:
    with s3_server() as server:
        server.make_bucket("runs")
        yield server


@pytest.fixture
def server(_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server without faults, and an environment in which its clients find their keys."""
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    _server.fault = lambda method, path: None
    yield _server
    _server.fault = lambda method, path: None


def board(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "leaderboard.csv").drop(columns=["search_id", "commit"])  # it may change meanwhile


@pytest.fixture
def go_on_elsewhere(cluster: Cluster) -> Callable[..., Sitting]:
    """``go_on_elsewhere(folder, uri, *options)``: a sitting on a machine that has nothing of the search."""

    def go_on(folder: Path, uri: str, *options: str) -> Sitting:
        with knob_spaces():
            return sit(cluster, folder, ["--wandb", "disabled", "--resume", uri, "--out", str(folder), *options])

    return go_on


def check_equal(found: Path, expected: Path) -> None:
    """The same board and the same epochs of every trial, each once."""
    pd.testing.assert_frame_equal(board(found), board(expected))
    epochs = [pd.read_parquet(folder / "epochs.parquet") for folder in (found, expected)]
    pd.testing.assert_frame_equal(*epochs)


def test_a_search_in_a_throttled_storage_ends_as_one_without(
    server: S3Server, knob_search: Search, finished_search: Sitting, tmp_path: Path
) -> None:
    draw = random.Random(0)
    server.fault = lambda method, path: "SlowDown" if draw.random() < 0.2 else None
    folder = tmp_path / "throttled"
    found = knob_search(folder, "--space", "plain", "--max-concurrent", "1", "--storage", server.uri("runs"))
    server.fault = lambda method, path: None
    assert found.code == 0, found.text
    check_equal(folder, finished_search.folder)
    assert kinds(folder) == kinds(finished_search.folder)
    assert "s3://runs/throttled" in found.text and "--resume" in found.text
    store = open_store(server.uri("runs/throttled"))
    own = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {name for name in store.names() if not name.startswith(("events/", "trials/"))}
    assert there == {name for name in own if not name.startswith(".") and not name.endswith(".lock")}
    best = found.trials[int(board(folder)["trial_id"][0][1:])]
    assert [name for name in store.names("trials") if "checkpoint" in name] == [f"trials/{best.trial_id}/checkpoint.pt"]
    assert not list((tmp_path / "throttled-cache" / "runs").glob("*"))
    assert "secret" not in (folder / "config.json").read_text()


def test_a_search_whose_driver_and_its_disk_are_lost_goes_on_elsewhere_and_ends_as_one_that_was_not(
    server: S3Server,
    knob_search: Search,
    go_on_elsewhere: Callable[..., Sitting],
    command: Callable[..., Command],
    prepared_tone_corpus: Path,
    tmp_path: Path,
) -> None:
    lost, cache = tmp_path / "lost" / "run", tmp_path / "lost" / "cache"
    options = ["--space", "long", "--trials", "2", "--max-concurrent", "1", "--scheduler", "asha", "--sampler", "tpe"]
    driver = command(
        *options, "--out", str(lost), "--data", str(prepared_tone_corpus), "--cache-dir", str(cache),
        "--split", "speaker_kfold:4:1", "--storage", server.uri("runs/lost"),
    )  # fmt: skip
    driver.wait_for(lost / "events.jsonl")
    driver.wait_for_epochs(lost, more=3)
    driver.kill()
    driver.clean_up()
    shutil.rmtree(lost)
    shutil.rmtree(cache / "runs")
    found = go_on_elsewhere(tmp_path / "elsewhere", server.uri("runs/lost/run"))
    assert found.code == 0, found.text
    check_equal(found.folder, knob_search(tmp_path / "whole", *options).folder)
    loaded = (cache / "loaded.txt").read_text().split()[1::2]
    assert int(loaded[0]) >= 2
    suggested = [
        event["number"] for event in read_events(found.folder / "events.jsonl") if event["kind"] == "suggested"
    ]
    assert suggested == [0, 1]


@pytest.mark.slow
def test_a_storage_that_goes_away_ends_the_sitting_and_the_same_folder_goes_on_when_it_is_back(
    server: S3Server, knob_search: Search, finished_search: Sitting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.storage.opening.PATIENCE_SECONDS", 0.5)
    folder = tmp_path / "away"

    def fail(method: str, path: str) -> str | None:
        checkpoint = "trials/t0001/checkpoint.pt" in path
        fail.away = fail.away or (checkpoint and method == "PUT")  # type: ignore[attr-defined]
        return "InternalError" if fail.away else None  # type: ignore[attr-defined]

    fail.away = False  # type: ignore[attr-defined]
    server.fault = fail
    with pytest.raises(UserError, match=r"(?s)cannot be written.*Nothing is lost: .*go on here with --resume") as told:
        knob_search(folder, "--space", "plain", "--max-concurrent", "1", "--storage", server.uri("runs"))
    assert str(folder) in str(told.value)
    server.fault = lambda method, path: None
    found = knob_search(folder, "--resume")
    assert found.code == 0, found.text
    check_equal(folder, finished_search.folder)


def test_a_trial_that_fails_on_another_machine_says_why(server: S3Server, knob_search: Search, tmp_path: Path) -> None:
    folder = tmp_path / "faulty"
    found = knob_search(
        folder, "--space", "faulty", "--fix", "fault=raises", "--trials", "1", "--max-failures", "0",
        "--storage", server.uri("runs"),
    )  # fmt: skip
    assert found.trials[0].reason.startswith("ValueError: a fault in the second epoch")
    assert b"a fault in the second epoch" in open_store(server.uri("runs/faulty")).read("trials/t0000/error.txt")


def test_a_storage_that_cannot_be_written_is_told_before_a_folder_is_made(
    server: S3Server, knob_search: Search, tmp_path: Path
) -> None:
    server.fault = lambda method, path: "AccessDenied" if method == "PUT" else None
    with pytest.raises(UserError, match=r"--storage: s3://runs/.* cannot be written .*ACCESS_DENIED"):
        knob_search(tmp_path / "denied", "--space", "plain", "--storage", server.uri("runs"))
    assert not (tmp_path / "denied").exists()


@pytest.mark.slow
def test_several_spaces_and_their_finalists_go_on_elsewhere(
    server: S3Server, knob_search: Search, go_on_elsewhere: Callable[..., Sitting], tmp_path: Path
) -> None:
    several = ["--space", "plain,second", "--trials", "6", "--max-concurrent", "1"]
    begun = knob_search(tmp_path / "begun", *several, "--storage", server.uri("runs"))
    whole = knob_search(tmp_path / "whole", *several)
    assert begun.code == 0, begun.text
    pd.testing.assert_frame_equal(board(begun.folder), board(whole.folder))
    assert (begun.folder / "best" / "provenance.txt").is_file()
    shutil.rmtree(begun.folder)
    more = ("--trials", "8", "--finalists", "2", "--seeds", "1")
    found = go_on_elsewhere(tmp_path / "elsewhere", server.uri("runs/begun"), *more)
    assert found.code == 0, found.text
    expected = knob_search(whole.folder, "--resume", *more)
    pd.testing.assert_frame_equal(board(found.folder), board(expected.folder))
    finalists = [pd.read_csv(folder / "finalists.csv") for folder in (found.folder, expected.folder)]
    pd.testing.assert_frame_equal(*(one.drop(columns="search_id", errors="ignore") for one in finalists))
    there = open_store(server.uri("runs/begun")).names()
    assert {"test_ledger.json", "finalists.md", "plain/leaderboard.csv", "plain/events/00000001-t0001.jsonl"} <= set(
        there
    )
    assert not [name for name in there if name.endswith("checkpoint.pt") and name.startswith("finalists")]
    third = go_on_elsewhere(tmp_path / "third", server.uri("runs/begun"))
    assert "is finished" in third.text and (third.folder / "finalists.md").is_file()


@pytest.mark.slow
def test_a_search_that_loses_driver_and_disk_again_and_again_ends_as_one_that_was_not_disturbed(
    server: S3Server, knob_search: Search, command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    draw = random.Random(1)
    server.fault = lambda method, path: "SlowDown" if draw.random() < 0.1 else None
    uri, cache = server.uri("runs/again/run"), tmp_path / "again-cache"
    options = ["--space", "long", "--trials", "8", "--max-concurrent", "1", "--scheduler", "asha", "--sampler", "tpe"]
    start = [
        *options, "--data", str(prepared_tone_corpus), "--cache-dir", str(cache), "--split", "speaker_kfold:4:1",
        "--storage", server.uri("runs/again"),
    ]  # fmt: skip
    for number in range(6):
        folder = tmp_path / f"machine-{number}" / "run"
        driver = command(*(["--resume", uri] if number else start), "--out", str(folder))
        driver.wait_for(folder / "events.jsonl")
        driver.wait_for_epochs(folder, more=1)
        time.sleep(draw.uniform(0.0, 1.5))
        driver.kill()
        driver.clean_up()
        shutil.rmtree(folder)
        shutil.rmtree(cache / "runs", ignore_errors=True)
    last = command("--resume", uri, "--out", str(tmp_path / "last" / "run"))
    code, out, err = last.end()
    assert code == 0, out + err
    check_equal(tmp_path / "last" / "run", knob_search(tmp_path / "undisturbed", *options).folder)


@pytest.mark.slow
def test_trials_of_a_lost_node_go_on_from_the_storage_on_another(
    server: S3Server, command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    search = command(
        "--space", "long", "--out", str(folder), "--data", str(prepared_tone_corpus), "--cache-dir", str(cache),
        "--split", "speaker_kfold:4:1", "--trials", "6", "--max-concurrent", "2", "--scheduler", "none",
        "--storage", server.uri("runs/nodes"), module="tests.search.losing_a_node",
    )  # fmt: skip
    code, out, err = search.end()
    assert code == 0, out + err
    assert "lost a node while trials" in out
    assert [trial.outcome for trial in trials_of(read_events(folder / "events.jsonl")).values()] == ["completed"] * 6
    assert any(int(epoch) >= 1 for epoch in (cache / "loaded.txt").read_text().split()[1::2])
    assert not list((cache / "runs").glob("*"))
    assert {path.name for path in folder.rglob("*.pt")} == set()  # checkpoints never touched the driver's folder


@pytest.mark.slow
def test_a_trial_that_hangs_and_a_preparation_are_told_as_without_a_storage(
    server: S3Server, knob_search: Search, tmp_path: Path
) -> None:
    hangs = tmp_path / "hangs"
    found = knob_search(
        hangs, "--space", "stuck", "--epoch-timeout", "15s", "--max-failures", "0", "--storage", server.uri("runs")
    )
    assert found.trials[1].reason.startswith(f"it hung: no epoch within --epoch-timeout; where it stood is in {hangs}")
    assert "knob_family" in (hangs / "trials" / "t0001" / "hang.txt").read_text()
    assert b"knob_family" in open_store(server.uri("runs/hangs")).read("trials/t0001/hang.txt")
    prepared = knob_search(tmp_path / "layered", "--space", "layered", "--storage", server.uri("runs"))
    assert prepared.code == 0, prepared.text
    assert "linear probe" in prepared.text
