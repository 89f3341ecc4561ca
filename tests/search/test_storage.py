"""Where a sitting begins that has a storage: which of the two is ahead, what is taken, what is refused. Without Ray."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search import lease, run_folder, uploader
from search.arguments import Arguments, parse_arguments
from search.lease import LEASE_FILE, LeaseLostError
from search.record import Event, Record, read_events
from search.segments import segment_name
from search.storage import open_record
from search.storage_opening import APART_FILE, opened_storage
from search.uploader import Uploader
from ser_data.errors import UserError
from ser_data.object_store import ObjectStore, StorageError, open_store

SITTING: Event = {"kind": "sitting"}


def epoch(number: int) -> Event:
    return {"kind": "epoch", "number": number}


class Place:
    """A storage in a folder, and the machines that drive a search in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.uri = str(tmp_path / "there")
        self.said: list[str] = []

    def machine(self, name: str) -> Path:
        """The driver's folder on a machine."""
        return self.tmp_path / name / "run"

    @property
    def store(self) -> ObjectStore:
        return open_store(self.uri).at("run")

    def sit(self, arguments: Arguments, *events: Event | Callable[[], Event], lost: bool = False) -> Path:
        """A sitting that appends *events*; where the driver is *lost*, the last of them never leave its machine."""
        with opened_storage(arguments, self.said.append) as (arguments, storage):
            folder = arguments.resume or arguments.out
            assert folder is not None and storage is not None
            if not (folder / run_folder.CONFIG_FILE).exists():
                folder.mkdir(parents=True)
                config = {"format": 1, "search_id": "abc", "arguments": {}, "plan": {}, "commit": "x"}
                config[run_folder.STORAGE] = storage.address_of(folder)
                run_folder.save(folder, config)
            storage.put()
            with open_record(folder / run_folder.RECORD_FILE, storage) as record:
                for event in events:
                    record.append(event() if callable(event) else event)
            if lost:
                with Record(folder / run_folder.RECORD_FILE) as record:
                    record.append(epoch(-1))
        return folder

    def begin(self, *events: Event, lost: bool = False) -> Path:
        return self.sit(Arguments(out=self.machine("first"), storage=self.uri), *events, lost=lost)

    def resume_from_afar(self, *events: Event, machine: str = "second") -> Path:
        return self.sit(Arguments(resume_from=self.store.uri, out=self.machine(machine)), *events)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def events(folder: Path) -> list[Event]:
    return read_events(folder / run_folder.RECORD_FILE)[1:]


def test_a_run_is_in_the_storage_whole_and_nobody_holds_it_afterwards(place: Place) -> None:
    folder = place.begin(SITTING, epoch(1), epoch(2))
    assert json.loads(place.store.read("config.json")) == run_folder.load(folder)
    assert place.store.read("events.jsonl") == (folder / "events.jsonl").read_bytes()
    assert b"".join(place.store.read(name) for name in place.store.names("events")) == place.store.read("events.jsonl")
    assert LEASE_FILE not in place.store.names()


def test_another_machine_goes_on_with_what_the_storage_has(place: Place) -> None:
    place.begin(SITTING, epoch(1))
    second = place.resume_from_afar(SITTING, epoch(2))
    assert events(second) == [SITTING, epoch(1), SITTING, epoch(2)]
    assert any("taking the search from" in line for line in place.said)
    third = place.resume_from_afar(machine="third")
    assert events(third) == events(second)


def test_without_a_name_for_it_the_folder_is_called_as_in_the_storage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.begin(SITTING)
    monkeypatch.chdir(place.tmp_path)
    assert place.sit(Arguments(resume_from=place.store.uri)) == Path("runs/run")


def test_a_folder_that_the_storage_lacks_events_of_brings_them_there(place: Place) -> None:
    first = place.begin(SITTING, epoch(1), lost=True)
    place.sit(Arguments(resume=first), SITTING)
    assert events(place.resume_from_afar()) == [SITTING, epoch(1), epoch(-1), SITTING]


def test_a_folder_takes_what_another_machine_did_meanwhile(place: Place) -> None:
    first = place.begin(SITTING, epoch(1))
    second = place.resume_from_afar(SITTING, epoch(2))
    (second / "leaderboard.csv").write_text("the second's")
    place.sit(Arguments(resume=second), SITTING)
    place.sit(Arguments(resume=first))
    assert events(first) == [SITTING, epoch(1), SITTING, epoch(2), SITTING]
    assert (first / "leaderboard.csv").read_text() == "the second's"


def test_where_two_machines_went_apart_the_storage_is_right_and_the_rest_is_kept_aside(place: Place) -> None:
    first = place.begin(SITTING, epoch(1), lost=True)
    place.resume_from_afar(SITTING, epoch(2))
    place.sit(Arguments(resume=first))
    assert events(first) == [SITTING, epoch(1), SITTING, epoch(2)]
    assert b'"number":-1' in (first / APART_FILE).read_bytes()
    assert any("before 1 events of" in line and APART_FILE in line for line in place.said)


def test_a_missing_segment_is_said_and_what_the_folder_has_of_it_is_put_there_again(place: Place) -> None:
    whole = [SITTING, epoch(1), SITTING, epoch(2), SITTING]
    first = place.begin(*whole)
    place.store.remove(place.store.names("events")[1])
    assert events(place.resume_from_afar()) == whole[:1]
    assert any("is missing; what the record had from there on is lost" in line for line in place.said)
    place.sit(Arguments(resume=first))
    assert events(place.resume_from_afar(machine="third")) == whole


def test_a_run_that_was_moved_in_its_storage_is_gone_on_with_where_it_is(place: Place) -> None:
    place.begin(SITTING)
    moved = place.tmp_path / "there" / "moved"
    (place.tmp_path / "there" / "run").rename(moved)
    folder = place.sit(Arguments(resume_from=moved.as_uri(), out=place.machine("second")), SITTING)
    assert run_folder.load(folder)["storage"] == moved.as_uri()
    place.sit(Arguments(resume=folder), SITTING)
    assert len(read_events(moved / "events.jsonl")) == 4


def test_the_place_itself_can_be_named_as_a_folder(place: Place) -> None:
    place.begin(SITTING)
    there = place.tmp_path / "there" / "run"
    folder = place.sit(Arguments(resume=there, out=place.machine("second")), SITTING)
    assert (folder, events(folder)) == (place.machine("second"), [SITTING, SITTING])


def test_a_driver_that_was_lost_before_its_first_event_is_gone_on_for(place: Place) -> None:
    place.begin(SITTING)
    for name in place.store.names("events"):
        place.store.remove(name)
    assert run_folder.load(place.resume_from_afar())["search_id"] == "abc"


def test_a_second_driver_is_refused_while_the_first_lives(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(uploader, "GATHER_SECONDS", 0.02)
    with opened_storage(Arguments(out=place.machine("first"), storage=place.uri), place.said.append):
        place.store.write("config.json", b'{"search_id": "abc"}')
        told = refused(place, Arguments(resume_from=place.store.uri, out=place.machine("second")))
    assert "which lives. One driver searches at a time" in told
    assert not place.machine("second").exists()


def test_a_driver_whose_search_was_taken_over_ends_its_sitting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.0)

    def take_over() -> Event:
        there = json.loads(place.store.read(LEASE_FILE))
        place.store.write(LEASE_FILE, json.dumps({**there, "host": "another", "token": "x"}).encode())
        return SITTING

    with pytest.raises(LeaseLostError, match=r"taken over by another driver \(another"):
        place.sit(Arguments(out=place.machine("first"), storage=place.uri), SITTING, take_over)
    assert json.loads(place.store.read(LEASE_FILE))["token"] == "x"
    assert events(place.machine("first"))[-1] == SITTING  # nothing is lost here


def refused(place: Place, arguments: Arguments) -> str:
    with pytest.raises(UserError) as told, opened_storage(arguments, place.said.append):
        pytest.fail("the search would begin")
    return str(told.value)


def test_a_name_that_the_storage_knows_already_is_no_new_search(place: Place) -> None:
    place.begin(SITTING)
    told = refused(place, Arguments(out=place.machine("second"), storage=place.uri))
    assert "holds a search already" in told and f"--resume {place.store.uri}" in told
    assert not place.machine("second").exists()


def test_a_search_stays_where_it_began(place: Place, tmp_path: Path) -> None:
    first = place.begin(SITTING)
    told = refused(place, Arguments(out=first, storage=str(tmp_path / "elsewhere")))
    assert f"began with --storage at {place.store.uri}" in told and f"--resume {first}" in told


def test_a_search_that_began_without_a_storage_gets_none(place: Place) -> None:
    folder = place.machine("first")
    folder.mkdir(parents=True)
    run_folder.save(folder, {"format": 1, "search_id": "abc", "arguments": {}, "plan": {}, "commit": "x"})
    assert "began without --storage" in refused(place, Arguments(out=folder, storage=place.uri))


def test_a_folder_of_another_search_is_not_overwritten(place: Place) -> None:
    place.begin(SITTING)
    other = place.machine("second")
    other.mkdir(parents=True)
    run_folder.save(other, {"format": 1, "search_id": "other", "arguments": {}, "plan": {}, "commit": "x"})
    assert "holds another search" in refused(place, Arguments(resume_from=place.store.uri, out=other))
    (other / "config.json").unlink()
    (other / "something").write_text("mine")
    assert "is not empty and holds no search" in refused(place, Arguments(resume_from=place.store.uri, out=other))


def test_an_address_without_a_search_is_refused(place: Place) -> None:
    place.begin(SITTING)
    address = Path(place.uri).as_uri()
    assert "holds no search: it has no config.json" in refused(place, Arguments(resume_from=address))


def test_the_drivers_folder_cannot_be_the_place_itself(place: Place) -> None:
    out = place.tmp_path / "there" / "run"
    assert "The driver works in a folder of its own machine" in refused(place, Arguments(out=out, storage=place.uri))


def test_a_storage_that_is_away_at_the_end_says_that_nothing_is_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Uploader, line: bytes, kind: str) -> None:
        raise StorageError("--storage: it cannot be written.")

    monkeypatch.setattr("search.storage._Copy.add", away)
    with pytest.raises(UserError, match=r"(?s)cannot be written\..*Nothing is lost: .*go on here with --resume"):
        place.begin(SITTING)


def test_a_checkpoint_is_removed_by_the_end_of_the_sitting(place: Place) -> None:
    with opened_storage(Arguments(out=place.machine("first"), storage=place.uri), place.said.append) as (_, storage):
        assert storage is not None
        storage.store.write("trials/t0000/checkpoint.pt", b"x")
        for _ in range(2):
            storage.remove(place.machine("first") / "trials" / "t0000" / "checkpoint.pt")
    assert place.store.names() == []


@pytest.mark.parametrize(
    ("options", "resume", "resume_from"),
    [
        (["--resume", "runs/x"], Path("runs/x"), None),
        (["--resume", "s3://bucket/x", "--out", "y", "--data", "z"], None, "s3://bucket/x"),
    ],
)
def test_resume_takes_a_folder_or_an_address(options: list[str], resume: Path | None, resume_from: str | None) -> None:
    found = parse_arguments(options)
    assert (found.resume, found.resume_from) == (resume, resume_from)


def test_a_folder_to_resume_has_its_own_place() -> None:
    with pytest.raises(UserError, match="--out cannot be given with --resume"):
        parse_arguments(["--resume", "runs/x", "--out", "y"])


def test_segments_are_named_by_their_first_event(place: Place) -> None:
    place.begin(SITTING)
    assert place.store.names("events")[0] == segment_name(1, 1)
