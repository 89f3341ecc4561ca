"""Which files of a run lie in its storage, and that a copy of it is a whole run."""

from pathlib import Path

import pytest

from search.storage.mirror import Mirror, is_mirrored
from ser_data.object_store import ObjectStore, open_store

RUN = ("config.json", "leaderboard.csv", "best/model.pt", "finalists/round-1/tfds/judged.json", "mfcc/config.json")
NOT_OF_THE_RUN = (
    "events.jsonl.lock", ".tune/x", ".config.json.tmp", "trials/t0001/checkpoint.pt", "mfcc/trials/t0001/error.txt",
    "wandb/run-1/x", "driver.json", "events/00000001-t0001.jsonl", "export/model.pt",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "there"), patience=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*RUN, *NOT_OF_THE_RUN, "events.jsonl", "mfcc/events.jsonl"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "run"


@pytest.mark.parametrize("name", NOT_OF_THE_RUN)
def test_what_is_of_one_machine_or_of_trials_is_left_out(name: str) -> None:
    assert not is_mirrored(name)


def test_the_run_is_put_there_and_a_second_time_only_what_changed(folder: Path, store: ObjectStore) -> None:
    mirror = Mirror(folder, store)
    mirror.put()
    assert store.names() == sorted(RUN)
    for name in RUN:
        store.write(name, b"as it was")
    (folder / "leaderboard.csv").write_text("another one")
    mirror.put(records=True)
    assert store.read("leaderboard.csv") == b"another one"
    assert store.read("config.json") == b"as it was"
    assert set(store.names()) - set(RUN) == {"events.jsonl", "mfcc/events.jsonl"}


def test_files_of_a_bundle_that_was_replaced_go(folder: Path, store: ObjectStore) -> None:
    mirror = Mirror(folder, store)
    mirror.put()
    (folder / "best" / "model.pt").rename(folder / "best" / "other.pt")
    mirror.put()
    assert [name for name in store.names() if name.startswith("best")] == ["best/other.pt"]


def test_another_machine_gets_the_run_without_records_and_checkpoints(
    folder: Path, store: ObjectStore, tmp_path: Path
) -> None:
    Mirror(folder, store).put(records=True)
    store.write("trials/t0001/checkpoint.pt", b"large")
    Mirror(tmp_path / "new", store).fetch()
    found = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert found == set(RUN)
    assert (tmp_path / "new" / "best" / "model.pt").read_text() == "best/model.pt"
