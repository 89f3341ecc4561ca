"""The page of a running search: served on this machine alone, built when something was written."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from search.live_page import LivePage, live_page
from search.record import Record
from tests.search.made_up_runs import TRIALS, write_run


def get(address: str, **headers: str) -> tuple[bytes, str]:
    """Content and version."""
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
        return answer.read(), answer.headers["ETag"]


def test_a_page_is_built_again_only_when_something_was_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TRIALS[:1], ended="")
    page = LivePage(folder)
    waiting = page.version
    assert page.refresh() and page.version != waiting
    assert b"data-live" in page.content and b"t0000" in page.content and b"t0001" not in page.content
    before = page.version
    assert not page.refresh() and page.version == before
    with Record(folder / "events.jsonl") as record:
        told = {"number": 1, "params": {}, "config": {}, "origin": "tpe"}
        record.append({"kind": "suggested", **told, "at": 2000.0})
    assert page.refresh() and b"t0001" in page.content
    assert not (folder / "leaderboard.html").exists()  # the search writes that, when it ends


def test_it_is_served_until_the_search_ends(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ended="")
    said: list[str] = []
    with live_page(folder, said.append) as address:
        assert address is not None and address.startswith("http://127.0.0.1:") and said[0].endswith(address)
        content = b""
        while b"t0003" not in content:
            content, version = get(address)
        assert get(f"{address}version") == (b"", version)
        for path, headers, code in (("events.jsonl", {}, 404), ("", {"Host": "elsewhere.example:80"}, 403)):
            with pytest.raises(urllib.error.HTTPError, match=str(code)):
                get(address + path, **headers)
    with pytest.raises(urllib.error.URLError):
        get(address)


def test_nothing_is_served_unasked(tmp_path: Path) -> None:
    with live_page(tmp_path, pytest.fail, wanted=False) as address:
        assert address is None


def test_a_page_that_fails_costs_the_search_a_line(tmp_path: Path) -> None:
    said: list[str] = []
    with live_page(tmp_path / "nowhere", said.append) as address:
        assert address is not None
        while len(said) < 2:
            assert b"being built" in get(address)[0]
    assert "note: the live page could not be built (UserError: " in said[1]
