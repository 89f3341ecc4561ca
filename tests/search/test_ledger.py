"""The ledger of looks at test speakers."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from search.finalists.ledger import LEDGER_FILE, Look, earlier_looks, enter, enter_everywhere, read_ledger
from search.run_folder import write_atomically
from ser_data.errors import UserError

LOOK = Look(
    at="2026-01-01T12:00:00+00:00", search_id="beef", round=1, manifest_hash="f00d", splits=("tfds",),
    emotions=("happy", "sad"), finalists=("t0003",), seeds=3, forced=False,
)  # fmt: skip


def test_looks_come_back_in_their_order(tmp_path: Path) -> None:
    second = replace(LOOK, search_id="cafe")
    assert read_ledger(tmp_path) == []
    enter(tmp_path, LOOK)
    enter(tmp_path, second)
    assert read_ledger(tmp_path) == [LOOK, second]


def test_a_look_that_is_entered_again_after_a_crash_stands_once_and_keeps_its_time(tmp_path: Path) -> None:
    enter(tmp_path, LOOK)
    enter(tmp_path, replace(LOOK, at="2026-01-02T12:00:00+00:00"))
    assert read_ledger(tmp_path) == [LOOK]


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"search_id": "cafe"}, True),
        ({"round": 2}, True),
        ({"search_id": "cafe", "splits": ("audeering", "tfds")}, True),
        ({"search_id": "cafe", "splits": ("audeering",)}, False),
        ({"search_id": "cafe", "manifest_hash": "beef"}, False),
        ({}, False),
    ],
)
def test_only_looks_at_the_same_speakers_count_and_not_the_look_itself(change: dict[str, object], counts: bool) -> None:
    other = replace(LOOK, **change)  # type: ignore[arg-type]  # fields of several types
    assert earlier_looks([other], LOOK) == ([other] if counts else [])


def folders(tmp_path: Path, *names: str) -> list[Path]:
    for name in names:
        (tmp_path / name).mkdir()
    return [tmp_path / name for name in names]


def test_a_look_is_entered_everywhere_and_learns_of_the_looks_that_any_ledger_tells_of(tmp_path: Path) -> None:
    whole, space, corpus = folders(tmp_path, "whole", "space", "corpus")
    of_space, of_other = replace(LOOK, search_id="cafe"), replace(LOOK, search_id="f00d")
    enter(space, of_space)
    enter(corpus, of_other)
    said: list[str] = []
    assert enter_everywhere([whole, space], corpus, LOOK, say=said.append) == [of_other, of_space]
    assert [LOOK in read_ledger(folder) for folder in (whole, space, corpus)] == [True] * 3
    assert not said


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files cannot be written, not even by root."""

    def write(path: Path, text: str) -> None:
        if path.parent == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        write_atomically(path, text)

    (folder,) = folders(tmp_path, "read_only")
    monkeypatch.setattr("search.finalists.ledger.write_atomically", write)
    return folder


def test_nobody_looks_without_an_entry_in_the_searchs_own_ledgers(tmp_path: Path, read_only: Path) -> None:
    whole, corpus = folders(tmp_path, "whole", "corpus")
    with pytest.raises(UserError, match=r"read_only cannot be written .*nobody looks .*go on with --resume .*whole"):
        enter_everywhere([whole, read_only], corpus, LOOK, say=print)
    assert read_ledger(corpus) == []


def test_a_corpus_whose_ledger_cannot_be_written_is_said_and_hinders_nobody(tmp_path: Path, read_only: Path) -> None:
    (whole,) = folders(tmp_path, "whole")
    said: list[str] = []
    assert enter_everywhere([whole], read_only, LOOK, say=said.append) == []
    assert "read_only cannot be written" in said[0] and "other searches will not be told" in said[0]
    assert read_ledger(whole) == [LOOK]


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', '{"format": 1, "looks": [{"at": "x"}]}', "[1]"])
def test_a_damaged_ledger_is_refused_and_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / LEDGER_FILE).write_text(content)
    with pytest.raises(UserError, match=r"test_ledger.json is damaged .*restore it from a copy"):
        read_ledger(tmp_path)
    with pytest.raises(UserError, match="is damaged"):
        enter(tmp_path, LOOK)
    assert (tmp_path / LEDGER_FILE).read_text() == content


def test_a_ledger_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text('{"format": 2, "looks": []}')
    with pytest.raises(UserError, match=r"has format 2; this version reads format 1"):
        read_ledger(tmp_path)
