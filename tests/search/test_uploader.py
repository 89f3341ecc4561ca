"""The thread behind a search: order, who waits for what, and a storage that is away."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from search import uploader as module
from search.mirror import Mirror
from search.uploader import Uploader
from ser_data.object_store import ObjectStore, StorageError


class Writer:
    """What writes the segments of a record, in place of a storage that does what a test says."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.away = 0.0  # tries that fail
        self.blocked = threading.Event()
        self.blocked.set()
        self._name = name
        self._done = done

    def write(self, lines: Sequence[bytes]) -> None:
        self.blocked.wait()
        if self.away > 0:
            self.away -= 1
            raise StorageError("the storage cannot be written (a test).")
        self._done.append(f"{self._name}: {b''.join(lines).decode()}")

    def merge(self) -> list[Callable[[], None]]:
        """Nothing."""
        return []


Started = Callable[..., tuple[Uploader, Writer, list[str], list[str]]]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """``started(patience=…)``: a thread, the writer of its second record, what was done, what was said."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.01)
    begun: list[Uploader] = []

    def start(patience: float = 30.0) -> tuple[Uploader, Writer, list[str], list[str]]:
        done: list[str] = []
        said: list[str] = []
        mirror = Mirror(tmp_path, ObjectStore((tmp_path / "there").as_uri(), patience=0))
        begun.append(Uploader(mirror, [], patience=patience, say=said.append))
        writer: Any = Writer("member", done)
        whole: Any = Writer("whole", done)
        begun[-1].open_record("", whole)
        begun[-1].open_record("member", writer)
        begun[-1].start()
        return begun[-1], writer, done, said

    yield start
    for uploader in begun:
        uploader.close()


def test_an_epoch_is_not_waited_for_and_comes_before_what_is(started: Started) -> None:
    uploader, writer, done, _ = started()
    writer.blocked.clear()
    uploader.add("member", b"a", "epoch")
    uploader.add("member", b"b", "epoch")
    assert done == []
    threading.Timer(0.05, writer.blocked.set).start()
    uploader.add("member", b"c", "suggested")
    assert "".join(entry.removeprefix("member: ") for entry in done) == "abc"


def test_the_whole_searchs_record_is_written_before_its_members(started: Started) -> None:
    uploader, writer, done, _ = started()
    writer.blocked.clear()
    uploader.add("member", b"holds the thread up", "epoch")
    time.sleep(0.05)
    uploader.add("member", b"suggested", "epoch")
    uploader.add("", b"allocated", "allocated")
    writer.blocked.set()
    uploader.wait()
    assert done == ["member: holds the thread up", "whole: allocated", "member: suggested"]


def test_a_job_is_done_when_all_lines_before_it_are_there(started: Started) -> None:
    uploader, _, done, _ = started()
    uploader.add("member", b"an outcome", "stopped")
    uploader.behind(lambda: done.append("checkpoint removed"))
    uploader.wait(jobs=True)
    assert done == ["member: an outcome", "checkpoint removed"]


def test_a_removal_comes_behind_its_outcome_and_one_that_fails_costs_nothing(started: Started) -> None:
    uploader, writer, done, _ = started()

    def fail() -> None:
        raise StorageError("it cannot be removed (a test).")

    writer.blocked.clear()
    uploader.add("member", b"an outcome", "stopped")
    uploader.aside(fail)
    uploader.aside(lambda: done.append("checkpoint removed"))
    writer.blocked.set()
    uploader.close()
    assert done == ["member: an outcome", "checkpoint removed"] and uploader.failure is None


def test_jobs_let_somebody_who_waits_go_first(started: Started) -> None:
    uploader, _, done, _ = started()
    holding, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        holding.wait()

    uploader.behind(hold)
    for number in range(3):
        uploader.behind(lambda number=number: done.append(f"job {number}"))  # type: ignore[misc]
    held.wait()
    waiting = threading.Thread(target=uploader.add, args=("member", b"a", "suggested"))
    waiting.start()
    time.sleep(0.05)
    holding.set()
    waiting.join()
    assert "member: a" in done[:2]  # the thread may have begun one job before
    uploader.wait(jobs=True)
    assert len(done) == 4


def test_a_storage_that_is_away_for_a_while_is_said_once_and_nothing_is_lost(started: Started) -> None:
    uploader, writer, done, said = started()
    writer.away = 3
    uploader.add("member", b"a", "suggested")
    assert done == ["member: a"]
    assert len(said) == 2 and "cannot be written" in said[0] and said[1] == "note: the storage is back"


def test_a_storage_that_stays_away_ends_the_sitting_with_its_error(started: Started) -> None:
    uploader, writer, _, _ = started(patience=0.05)
    failed: list[Exception] = []
    uploader.on_failure = failed.append
    writer.away = float("inf")
    with pytest.raises(StorageError, match="cannot be written"):
        uploader.add("member", b"a", "suggested")
    with pytest.raises(StorageError, match="cannot be written"):
        uploader.add("member", b"b", "epoch")
    assert failed == [uploader.failure]


def test_after_ctrl_c_a_storage_that_is_away_is_not_waited_for(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS_SECONDS", 0.05)
    uploader, writer, _, _ = started(patience=1e6)
    writer.away = float("inf")
    uploader.impatient = lambda: True
    with pytest.raises(StorageError):
        uploader.add("member", b"a", "ended")


def test_what_is_left_at_the_end_is_written(started: Started) -> None:
    uploader, _, done, _ = started()
    uploader.add("member", b"a", "epoch")
    uploader.behind(lambda: done.append("job"))
    uploader.close()
    assert done == ["member: a", "job"]
