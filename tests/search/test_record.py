"""The record survives a kill at any byte, and says so when it was changed."""

import resource
from pathlib import Path

import pytest

from search.record import Record, read_events
from ser_data.errors import UserError

EVENTS = [{"kind": "suggested", "number": 0, "params": {"x": 0.25}}, {"kind": "epoch", "number": 0, "ä": "ö"}]


def _write(path: Path) -> None:
    with Record(path) as record:
        for event in EVENTS:
            record.append(event)


def test_events_come_back_in_order(tmp_path: Path) -> None:
    _write(tmp_path / "events.jsonl")
    with Record(tmp_path / "events.jsonl") as record:
        assert record.events[1:] == EVENTS
        assert record.lost_bytes == 0


def test_a_record_cut_at_any_byte_loses_at_most_its_last_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write(path)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = [line for end, line in zip(_ends(lines), lines, strict=True) if end <= cut]
        with Record(path) as record:
            assert len(record.events) == max(1, len(whole))  # a record cut to nothing begins anew
            assert record.lost_bytes == cut - sum(map(len, whole))
            record.append({"kind": "after"})
        assert read_events(path)[-1] == {"kind": "after"}


def _ends(lines: list[bytes]) -> list[int]:
    return [sum(map(len, lines[: index + 1])) for index in range(len(lines))]


def test_a_changed_byte_in_the_middle_is_refused_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"0.25")] = ord("9")
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged at byte \d+.*Restore it from a copy"):
        Record(path)
    assert path.read_bytes() == bytes(data)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Record(tmp_path / "events.jsonl"), pytest.raises(UserError, match=r"another search that still runs.*--out"):
        Record(tmp_path / "events.jsonl")


def test_a_record_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Record(path) as record:
        record.append({"kind": "x"})
    import json
    import zlib

    text = json.dumps({"kind": "format", "version": 99})
    path.write_text(f"{zlib.crc32(text.encode()):08x} {text}\n")
    with pytest.raises(UserError, match="format 99; this version reads format 1"):
        Record(path)


def test_a_full_disk_leaves_no_half_written_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    with Record(path) as record:
        before = path.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*--resume"):
            record.append({"kind": "epoch"})
        monkeypatch.undo()
        assert path.read_bytes() == before
        record.append({"kind": "later"})
    assert [event["kind"] for event in read_events(path)] == ["format", "later"]


def test_a_value_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    with Record(tmp_path / "events.jsonl") as record, pytest.raises(ValueError, match="not JSON compliant"):
        record.append({"kind": "epoch", "score": float("nan")})


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Record(path) as record:
        before = path.read_bytes()
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, unlimited[1]))  # of any file of this process
        try:
            with pytest.raises(UserError, match=r"cannot be written \(File too large\).*free some disk space"):
                record.append({"kind": "epoch", "text": "longer than the room that is left"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert path.read_bytes() == before
        record.append({"kind": "later"})
    assert [event["kind"] for event in read_events(path)] == ["format", "later"]


def test_a_full_disk_after_a_torn_tail_adds_nothing_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    _write(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"0123 {torn")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Record(path) as record, monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            record.append({"kind": "epoch"})
    assert path.read_bytes() == whole
