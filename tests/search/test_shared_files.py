"""Files that driver and workers exchange, in one folder or through a storage, and which checkpoints are worth it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from search import trial
from search.storage import shared_files
from search.storage.shared_files import NodeFiles, Pace, SharedFiles, for_any_node
from ser_data.object_store import ObjectStore, StorageError, open_store

NAME = "trials/t0001/checkpoint.pt"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "there"), patience=0)


def machine(tmp_path: Path, name: str, store: ObjectStore | None) -> SharedFiles:
    files = SharedFiles(tmp_path / name, store)
    (files.folder / NAME).parent.mkdir(parents=True)
    return files


def test_a_published_file_is_seen_by_another_machine_until_it_is_removed(tmp_path: Path, store: ObjectStore) -> None:
    worker, other = machine(tmp_path, "worker", store), machine(tmp_path, "other", store)
    (worker.folder / NAME).write_text("epoch 3")
    assert not other.fetch(NAME).exists()
    worker.publish(NAME)
    assert other.fetch(NAME).read_text() == "epoch 3"
    assert other.names("trials/t0001") == {NAME}
    worker.forget(NAME)
    assert not (worker.folder / NAME).exists() and other.fetch(NAME).exists()
    worker.remove(NAME)
    assert not other.fetch(NAME).exists()  # not even the copy that it had


def test_without_a_storage_there_is_one_folder_and_nothing_is_done(tmp_path: Path) -> None:
    files = machine(tmp_path, "run", None)
    (files.folder / NAME).write_text("epoch 3")
    files.publish(NAME)
    files.forget(NAME)
    assert files.fetch(NAME).read_text() == "epoch 3"
    assert files.names("trials/t0001") == {NAME}
    files.publish_folder("trials")
    files.fetch_folder("trials", tmp_path / "elsewhere")
    assert (files.folder / NAME).exists() and not (tmp_path / "elsewhere").exists()


def test_a_folder_goes_through_the_storage_without_what_an_earlier_one_left(tmp_path: Path, store: ObjectStore) -> None:
    worker, driver = machine(tmp_path, "worker", store), machine(tmp_path, "driver", store)
    store.write("export/left over", b"x")
    (worker.folder / "export" / "deep").mkdir(parents=True)
    (worker.folder / "export" / "deep" / "model.pt").write_text("weights")
    worker.publish_folder("export")
    driver.fetch_folder("export", tmp_path / "best")
    assert [path.name for path in (tmp_path / "best").rglob("*") if path.is_file()] == ["model.pt"]
    assert store.names() == [] and not (worker.folder / "export").exists()


def test_what_may_be_missed_costs_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: ObjectStore) -> None:
    files = machine(tmp_path, "worker", store)
    (files.folder / NAME).write_text("epoch 3")

    def away(*_: object, **__: object) -> None:
        raise StorageError("it is away (a test).")

    monkeypatch.setattr(ObjectStore, "upload", away)
    monkeypatch.setattr(ObjectStore, "download", away)
    files.publish_if_easy(NAME)
    assert not files.fetch_if_easy(NAME).exists()
    with pytest.raises(StorageError):
        files.publish(NAME)


def test_a_part_of_a_run_has_its_own_place(store: ObjectStore) -> None:
    NodeFiles(store, "/node", "finalists/round-1/tfds").place.write(NAME, b"x")
    assert store.names() == [f"finalists/round-1/tfds/{NAME}"]


def test_checkpoints_are_published_seldom_and_the_more_so_the_longer_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(shared_files.time, "monotonic", lambda: now[0])
    pace = Pace(seconds=10, share=0.05)
    assert pace.is_due()
    for taken, until in ((0.1, 10.0), (3.0, 60.0)):
        begun = now[0]
        pace.took(taken)
        now[0] = begun + until - 0.1
        assert not pace.is_due()
        now[0] = begun + until
        assert pace.is_due()


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5], True), ([0.5, 0.4], False), ([0.5, 0.5], False), ([0.5, 0.6], True), ([0.5, None], True),
     ([0.5, float("nan")], False)],
)  # fmt: skip
def test_an_epoch_is_the_best_so_far_where_a_bundle_would_be_made_of_it(scores: list[float], best: bool) -> None:
    assert trial._is_best([SimpleNamespace(val_uar=score) for score in scores]) is best


def test_a_nodes_files_lie_below_its_own_home_where_the_cache_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = NodeFiles(ObjectStore(tmp_path.as_uri()), for_any_node(Path("~/cache/runs/1")), "mfcc_full")
    for home in ("/home/one", "/home/two"):
        monkeypatch.setenv("HOME", home)
        assert files.here == Path(home, "cache/runs/1/mfcc_full")
    monkeypatch.chdir(tmp_path)
    assert for_any_node(Path("cache")) == str(tmp_path / "cache")
