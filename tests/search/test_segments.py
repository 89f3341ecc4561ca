"""A record as numbered segments in a storage: what is read is what was written, whatever happened in between."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from search import segments
from search.segments import SegmentWriter, read_record, segment_name, set_aside
from ser_data.object_store import ObjectStore, open_store


def line(number: int, said: str = "") -> bytes:
    """A line of a record."""
    text = json.dumps({"kind": "epoch", "number": number, "said": said})
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


LINES = [line(number) for number in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "there"), patience=0)


def write(store: ObjectStore, groups: Sequence[Sequence[bytes]], *, term: int = 1, stored: int = 0) -> SegmentWriter:
    writer = SegmentWriter(store, term=term, stored=stored)
    for group in groups:
        writer.write(group)
        for removal in writer.merge():
            removal()
    return writer


def test_what_was_written_is_read_in_its_order(store: ObjectStore) -> None:
    write(store, [LINES[:1], LINES[1:5], LINES[5:]])
    assert store.names() == [segment_name(first, 1) for first in (1, 2, 6)]
    found = read_record(store)
    assert (found.lines, found.term, found.trouble) == (LINES, 1, "")


def test_a_place_without_segments_has_no_record(store: ObjectStore) -> None:
    assert read_record(store) == segments.StoredRecord([])


def test_many_small_segments_become_few_and_hold_the_same(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_MERGED", 4)
    write(store, [[each] for each in LINES[:10]])
    assert store.names() == [segment_name(first, 1) for first in (1, 5, 9, 10)]
    assert read_record(store).lines == LINES[:10]


@pytest.mark.parametrize("left", [(2,), (3,), (2, 3, 4), (4,)])
def test_a_crash_while_segments_are_merged_changes_nothing(store: ObjectStore, left: Sequence[int]) -> None:
    write(store, [LINES[:4], LINES[4:]])
    for first in left:
        store.write(segment_name(first, 1), LINES[first - 1])
    assert read_record(store).lines == LINES


def test_a_segment_that_is_missing_ends_the_record_and_is_said(store: ObjectStore) -> None:
    write(store, [LINES[:3], LINES[3:5], LINES[5:8], LINES[8:]])
    store.remove(segment_name(4, 1))
    found = read_record(store)
    assert found.lines == LINES[:3]
    assert f"segment {segment_name(4, 1)} is missing" in found.trouble
    set_aside(store, found.beyond)
    assert store.names("events") == [segment_name(1, 1)]
    assert store.names("events-set-aside") == [f"events-set-aside/0000000{first}-t0001.jsonl" for first in (6, 9)]
    write(store, [LINES[3:]], term=2, stored=3)
    assert (read_record(store).lines, read_record(store).trouble) == (LINES, "")


def test_a_damaged_segment_ends_the_record_at_its_damage_and_is_said(store: ObjectStore) -> None:
    write(store, [LINES[:3], LINES[3:6], LINES[6:]])
    store.write(segment_name(4, 1), LINES[3] + LINES[4][:-9] + b"\n" + LINES[5])
    found = read_record(store)
    assert found.lines == LINES[:4]
    assert "segment events/00000004-t0001.jsonl is damaged behind its first 1 events" in found.trouble
    assert found.beyond == (segment_name(7, 1),)


def test_what_a_driver_writes_after_another_took_over_is_passed_over(store: ObjectStore) -> None:
    thought_dead = write(store, [LINES[:4]])
    other = write(store, [[line(99, "of the second driver")]], term=2, stored=4)
    thought_dead.write(LINES[4:8])
    other.write([line(100)])
    thought_dead.write(LINES[8:])
    assert read_record(store).lines == [*LINES[:4], line(99, "of the second driver"), line(100)]
    assert read_record(store).term == 2
