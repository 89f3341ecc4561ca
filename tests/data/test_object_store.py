"""Object storage and folders behind one interface: whole objects, faults of the server, and what a user is told."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from ser_data.object_store import ObjectStore, StorageError, open_store
from tests.s3_server import ACCESS, S3Server, s3_server

BIG = bytes(range(256)) * 2**16  # 16 MiB: uploaded in several parts, downloaded in several reads


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        server.make_bucket("results")
        yield server


@pytest.fixture(autouse=True)
def _access(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["s3", "folder", "fsspec"])
def store(request: pytest.FixtureRequest, server: S3Server, tmp_path: Path) -> Iterator[ObjectStore]:
    name = request.node.name.replace("[", "-").replace("]", "")
    server.fault = lambda method, path: None
    uris = {"s3": server.uri(f"results/{name}"), "folder": str(tmp_path / "there"), "fsspec": f"memory://box/{name}"}
    yield open_store(uris[request.param], patience=2)


def test_what_is_written_is_read_listed_and_removed(store: ObjectStore) -> None:
    store.write("a/1", b"one")
    store.write("a/b/2", b"two")
    store.write("a/1", b"one, anew")
    assert store.read("a/1") == b"one, anew"
    assert store.names() == ["a/1", "a/b/2"]
    assert store.names("a/b") == ["a/b/2"]
    assert store.names("nowhere") == []
    assert (store.size("a/b/2"), store.size("a/3")) == (3, None)
    store.remove("a/1")
    store.remove("a/1")
    assert store.names() == ["a/b/2"]


def test_an_object_that_is_not_there_is_a_missing_file(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.download("nothing", tmp_path / "file")


def test_files_go_there_and_come_back_also_from_the_middle(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BIG)
    store.upload(tmp_path / "file", "big")
    store.download("big", tmp_path / "new" / "back")
    assert (tmp_path / "new" / "back").read_bytes() == BIG
    (tmp_path / "part").write_bytes(BIG[:1_000_001] + b"half a chunk that a kill left")
    store.download("big", tmp_path / "part", start=1_000_001)
    assert (tmp_path / "part").read_bytes() == BIG


def test_an_object_is_read_in_one_request(server: S3Server) -> None:
    server.fault = lambda method, path: None
    store = open_store(server.uri("results/whole"), patience=0)
    store.write("big", BIG)
    before = len(server.requests)
    assert store.read("big") == BIG
    assert [method for method, _ in server.requests[before:]] == ["HEAD", "GET"]


def test_a_place_below_and_a_pickled_one_see_the_same(store: ObjectStore) -> None:
    store.at("run").write("config", b"x")
    assert store.at("run").above.read("run/config") == b"x"
    assert pickle.loads(pickle.dumps(store)).read("run/config") == b"x"


def test_half_an_object_is_never_seen_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "there"), patience=0)
    store.write("config", b"before")

    def cut_off(source: object, target: object, length: int) -> None:
        target.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr("ser_data.object_store.shutil.copyfileobj", cut_off)
    (tmp_path / "file").write_bytes(b"after")
    with pytest.raises(KeyboardInterrupt):
        store.upload(tmp_path / "file", "config")
    assert store.read("config") == b"before"
    assert store.names() == ["config"]


@pytest.fixture
def _without_the_clients_own_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which take seconds; for addresses that were not opened yet."""
    monkeypatch.setattr("ser_data.object_store._ATTEMPTS", 1)


@pytest.mark.usefixtures("_without_the_clients_own_retries")
def test_throttling_and_errors_of_the_server_are_waited_for(server: S3Server, tmp_path: Path) -> None:
    store = open_store(server.uri("results/patience"), patience=20)
    codes = iter(["SlowDown", "InternalError"])
    server.fault = lambda method, path: next(codes, None)
    store.write("object", b"there")
    codes = iter(["InternalError"])
    store.download("object", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"there"


@pytest.mark.usefixtures("_without_the_clients_own_retries")
def test_a_server_that_does_not_come_back_is_named(server: S3Server) -> None:
    store = open_store(server.uri("results/gone"), patience=0)
    server.fault = lambda method, path: "InternalError"
    with pytest.raises(StorageError, match=r"--storage: s3://results/gone/x cannot be written .*Check the address"):
        store.write("x", b"")


def test_a_bucket_that_may_not_be_written_is_said_at_once(server: S3Server) -> None:
    server.fault = lambda method, path: "AccessDenied" if method in ("PUT", "POST") else None
    with pytest.raises(StorageError, match=r"cannot be written .*ACCESS_DENIED.*credentials"):
        open_store(server.uri("results/denied"))


def test_a_bucket_that_does_not_exist_is_said_at_once(server: S3Server) -> None:
    server.fault = lambda method, path: None
    with pytest.raises(StorageError, match=r"s3://nobody/x/.*NO_SUCH_BUCKET.*Check that the place exists"):
        open_store(server.uri("nobody/x"))


@pytest.mark.usefixtures("_without_the_clients_own_retries")
def test_an_address_where_nobody_listens_is_said() -> None:
    with s3_server() as gone:
        uri = gone.uri("results/x")
    with pytest.raises(StorageError, match=r"NETWORK_CONNECTION.*Check the address and the network"):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://key:secret@bucket/x", "a key does not belong into the address"),
        ("s3://bucket/x?secret_access_key=y", "a key does not belong into the address"),
        ("s3://key@bucket/x", "a key does not belong into the address"),
        ("s3://bucket/x?access_key=y", "a key does not belong into the address"),
        ("s3:///x", "names no bucket"),
        ("nonsense://x/y", r"nonsense.*Accepted are s3://BUCKET/PATH, gs://BUCKET/PATH, a folder"),
        ("/proc/nowhere", "cannot be written"),
    ],
)
def test_an_address_that_is_none_is_refused(uri: str, told: str) -> None:
    with pytest.raises(StorageError, match=told):
        open_store(uri)


def test_end_point_and_region_of_this_machine_travel_with_the_address(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault = lambda method, path: None
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    store = open_store("s3://results/travels")
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    ObjectStore(store.uri).write("x", b"seen")
    assert store.read("x") == b"seen"
    assert "eu-central-1" in store.uri
    assert "secret" not in store.uri
