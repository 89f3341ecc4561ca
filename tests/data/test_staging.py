"""Copies on a node: fetched once, gone on with after a kill, checked, and making room for one another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ser_data import staging
from ser_data.consignment import Chunk, Consignment, holds, pack, read_chunk
from ser_data.consignment_store import StoredConsignments
from ser_data.errors import UserError
from ser_data.object_store import open_store
from ser_data.staging import StagingError, stage
from tests.s3_server import ACCESS, S3Server, s3_server

ROOT = Path(__file__).parent.parent.parent
CHUNK = 1_000
SIZES = {"big.bin": 10_500, "sub/even.bin": 3_000, "small.json": 20, "empty.txt": 0}


class Folder:
    """A source for tests: a folder whose reads are counted, and may be spoilt, slow, or fail."""

    called = "the test's folder"
    advice = "Mend the folder."

    def __init__(self, folder: Path, spoil: Callable[[Chunk, bytes], bytes] = lambda chunk, data: data) -> None:
        self.folder = folder
        self.reads: list[tuple[str, int]] = []
        self._spoil = spoil

    def read(self, consignment: Consignment, chunk: Chunk) -> bytes:
        self.reads.append((chunk.file, chunk.index))
        return self._spoil(chunk, read_chunk(self.folder, chunk))


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    noise = np.random.default_rng(0)
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise.bytes(size))
    return folder


@pytest.fixture
def consignment(origin: Path) -> Consignment:
    return pack(origin, list(SIZES), called="the corpus x/y", chunk_bytes=CHUNK)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cache" / "staged"
    staging._in_use.clear()  # this process uses no copy any more


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SIZES}


def test_a_copy_has_the_same_files_and_is_fetched_once(origin: Path, consignment: Consignment, shelf: Path) -> None:
    source = Folder(origin)
    first, second = stage(consignment, source, shelf), stage(consignment, source, shelf)
    assert content(first.folder) == content(origin)
    assert (first.fetched, second.fetched) == (sum(SIZES.values()), 0) == (consignment.size, 0)
    assert second.folder == first.folder and first.folder.name.startswith("the-corpus-x-y-")
    assert sorted(source.reads) == sorted(
        (name, index) for name, size in SIZES.items() for index in range(-(-size // CHUNK))
    )


def test_a_consignment_is_known_by_its_content_and_not_by_where_it_lies(origin: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(origin, tmp_path / "elsewhere"))
    digests = {pack(folder, list(SIZES), called=str(folder)).digest for folder in (origin, elsewhere)}
    assert len(digests) == 1
    (elsewhere / "small.json").write_bytes(b"x" * SIZES["small.json"])
    assert pack(elsewhere, list(SIZES), called="x").digest not in digests


def test_a_folder_is_compared_by_sizes_and_small_files_or_byte_by_byte(origin: Path, tmp_path: Path) -> None:
    large = origin / "large.bin"
    large.write_bytes(bytes(5 * 2**20))
    packed = pack(origin, [*SIZES, "large.bin"], called="x")
    own = Path(shutil.copytree(origin, tmp_path / "own"))
    assert holds(own, packed, whole=False) and holds(own, packed, whole=True)
    (own / "large.bin").write_bytes(b"\1" + bytes(5 * 2**20 - 1))
    assert holds(own, packed, whole=False) and not holds(own, packed, whole=True)
    (own / "small.json").write_bytes(b"y" * SIZES["small.json"])
    assert not holds(own, packed, whole=False)
    (own / "small.json").unlink()
    assert not holds(own, packed, whole=False)
    assert not holds(tmp_path / "nowhere", packed, whole=False)


def test_files_that_cannot_be_sent_are_told(origin: Path) -> None:
    (origin / "small.json").unlink()
    with pytest.raises(UserError, match=r"the corpus cannot be read to be sent to other nodes .*small.json.*must be"):
        pack(origin, list(SIZES), called="the corpus")


_FETCHER = """
import sys, time
from pathlib import Path
from ser_data.consignment import pack, read_chunk
from ser_data.staging import stage
import json

class Source:
    called, advice = "the test", ""
    def read(self, consignment, chunk):
        with log.open("a") as file:
            print(chunk.file, chunk.index, file=file)
        time.sleep(pause)
        return read_chunk(origin, chunk)

origin, shelf, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
names = json.loads(sys.argv[5])
arrival = stage(pack(origin, names, called="the corpus x/y", chunk_bytes=1000), Source(), shelf)
print(arrival.fetched)
"""


def fetcher(origin: Path, shelf: Path, log: Path, *, pause: float) -> "subprocess.Popen[str]":
    """Another process of the node that wants the same copy."""
    command = [sys.executable, "-c", _FETCHER, str(origin), str(shelf), str(log), str(pause), json.dumps(list(SIZES))]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})


def test_a_process_killed_in_the_middle_is_gone_on_with_by_the_next(
    origin: Path, consignment: Consignment, shelf: Path, tmp_path: Path
) -> None:
    """The first is killed between chunks, or while one is written; what it wrote of that one is not trusted."""
    log = tmp_path / "log"
    first = fetcher(origin, shelf, log, pause=0.1)
    partial = shelf / f"{consignment.folder_name}.partial"
    deadline = time.monotonic() + 60
    while not ((partial / "big.bin").exists() and (partial / "big.bin").stat().st_size >= 3 * CHUNK):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (shelf / consignment.folder_name).exists()
    with (partial / "big.bin").open("ab") as file:  # as if it had been in the middle of a chunk
        whole = file.tell() // CHUNK
        file.write(b"torn" * 100)
    source = Folder(origin)
    arrival = stage(consignment, source, shelf)
    assert content(arrival.folder) == content(origin)
    assert arrival.fetched == consignment.size - whole * CHUNK
    assert min(index for name, index in source.reads if name == "big.bin") == whole


def test_a_wrong_byte_of_an_unfinished_copy_is_found_and_fetched_again(
    origin: Path, consignment: Consignment, shelf: Path
) -> None:
    partial = shelf / f"{consignment.folder_name}.partial"
    shutil.copytree(origin, partial)
    spoilt = bytearray((partial / "big.bin").read_bytes())
    spoilt[4_321] ^= 1
    (partial / "big.bin").write_bytes(spoilt)
    source = Folder(origin)
    arrival = stage(consignment, source, shelf)
    assert content(arrival.folder) == content(origin)
    assert sorted(source.reads) == [("big.bin", index) for index in range(4, 11)]


def test_two_processes_of_a_node_fetch_once(origin: Path, shelf: Path, tmp_path: Path) -> None:
    both = [fetcher(origin, shelf, tmp_path / "log", pause=0.02) for _ in range(2)]
    fetched = sorted(int(each.communicate(timeout=60)[0]) for each in both)
    assert fetched == [0, sum(SIZES.values())]
    asked = (tmp_path / "log").read_text().splitlines()
    assert len(asked) == len(set(asked)) == 15


def test_a_chunk_that_comes_damaged_is_asked_for_again(origin: Path, consignment: Consignment, shelf: Path) -> None:
    spoilt = iter([True, True])
    source = Folder(origin, lambda chunk, data: data[::-1] if chunk.index == 2 and next(spoilt, False) else data)
    assert content(stage(consignment, source, shelf).folder) == content(origin)


def test_a_chunk_that_stays_damaged_is_named_with_node_and_fix(
    origin: Path, consignment: Consignment, shelf: Path
) -> None:
    source = Folder(origin, lambda chunk, data: data[:-1] if chunk.index == 2 else data)
    message = (
        r"node \S+ cannot get the corpus x/y from the test's folder: the bytes of big.bin from 2,000 on came 3 times "
        r"with a wrong checksum. Mend the folder."
    )
    with pytest.raises(StagingError, match=message):
        stage(consignment, source, shelf)
    assert content(stage(consignment, Folder(origin), shelf).folder) == content(origin)


def test_a_source_that_cannot_be_reached_is_named_with_node_and_fix(
    origin: Path, consignment: Consignment, shelf: Path
) -> None:
    def fail(chunk: Chunk, data: bytes) -> bytes:
        raise ConnectionError("nobody answers")

    with pytest.raises(StagingError, match=r"node \S+ cannot get .* from the test's folder \(nobody answers\). Mend"):
        stage(consignment, Folder(origin, fail), shelf)


def test_a_copy_that_somebody_changed_is_fetched_again_and_said(
    origin: Path, consignment: Consignment, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stage(consignment, Folder(origin), shelf).folder
    (folder / "big.bin").write_bytes(b"other" * 2100)
    assert stage(consignment, Folder(origin), shelf).fetched == consignment.size
    assert content(folder) == content(origin)
    assert f"{folder} was changed: it is fetched again" in capsys.readouterr().err


def test_a_full_disk_is_told_with_node_size_and_fix(
    origin: Path, consignment: Consignment, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 5_000}))
    message = r"the disk of node \S+ has no room for the corpus x/y: 0.0 MB are needed in .*staged, .* with --cache-dir"
    with pytest.raises(StagingError, match=message):
        stage(consignment, Folder(origin), shelf)


def test_a_disk_that_fills_in_the_middle_is_told_likewise_and_gone_on_with(
    origin: Path, consignment: Consignment, shelf: Path
) -> None:
    def fill(chunk: Chunk, data: bytes) -> bytes:
        if chunk.index == 5:
            raise OSError(28, "No space left on device", str(shelf / "x"))
        return data

    with pytest.raises(StagingError, match=r"has no room for the corpus x/y"):
        stage(consignment, Folder(origin, fill), shelf)
    again = Folder(origin)
    assert content(stage(consignment, again, shelf).folder) == content(origin)
    assert ("big.bin", 0) not in again.reads


def test_a_folder_that_cannot_be_written_is_told(origin: Path, consignment: Consignment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StagingError, match=r"cannot write its copy of the corpus x/y .* with --cache-dir"):
        stage(consignment, Folder(origin), tmp_path / "file" / "staged")


def test_a_short_disk_removes_copies_that_nobody_uses_the_oldest_first(
    origin: Path, consignment: Consignment, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, older, used = (
        pack(origin, [name], called=name, chunk_bytes=CHUNK) for name in ("sub/even.bin", "big.bin", "small.json")
    )
    folders = {each.name: stage(each, Folder(origin), shelf).folder for each in (old, older, used)}
    left = shelf / "left-by-a-killed-process.partial"
    left.mkdir()
    for name, age in (("sub/even.bin", 100), ("big.bin", 200), ("small.json", 300)):
        os.utime(folders[name] / ".whole.json", (time.time() - age,) * 2)
    for each in (old, older):
        staging._in_use.pop(folders[each.name]).close()

    def free(folder: Path) -> object:  # a disk that holds what is there, and lacks a byte of what is to come
        taken = sum(path.stat().st_size for path in shelf.rglob("*") if path.is_file() and path.suffix != ".json")
        return type("usage", (), {"free": SIZES["big.bin"] + 3_000 + consignment.size - 1 - taken})

    monkeypatch.setattr("shutil.disk_usage", free)
    stage(consignment, Folder(origin), shelf)
    assert not left.exists() and not folders["big.bin"].exists()
    assert folders["sub/even.bin"].exists() and folders["small.json"].exists()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server:
        server.make_bucket("results")
        yield server


def put(stored: StoredConsignments, consignment: Consignment, folder: Path) -> int:
    return stored.put(consignment, folder, stored.missing(consignment))


def test_what_is_put_into_a_throttled_storage_once_is_fetched_from_there(
    origin: Path, consignment: Consignment, shelf: Path, server: S3Server
) -> None:
    stored = StoredConsignments(open_store(server.uri("results/runs"), patience=30))
    faults = iter(["SlowDown"] * 2)
    server.fault = lambda method, path: next(faults, None)
    assert put(stored, consignment, origin) == consignment.size
    assert put(stored, consignment, origin) == 0
    stored.store.remove(f"node-data/{consignment.folder_name}/big.bin.0003")
    stored.store.write(f"node-data/{consignment.folder_name}/big.bin.0005", b"of another size")
    assert put(stored, consignment, origin) == 2 * CHUNK
    faults = iter(["SlowDown", "InternalError"] * 3)
    arrival = stage(consignment, stored, shelf)
    assert content(arrival.folder) == content(origin)
    assert next(faults, None) is None  # they came while it was fetched


def test_what_lacks_or_is_damaged_in_the_storage_is_named_with_the_fix(
    origin: Path, consignment: Consignment, shelf: Path, tmp_path: Path
) -> None:
    stored = StoredConsignments(open_store(str(tmp_path / "storage"), patience=0))
    put(stored, consignment, origin)
    damaged = f"node-data/{consignment.folder_name}/big.bin.0003"
    stored.store.write(damaged, bytes(CHUNK))
    message = r"from file://.*storage/node-data: .* wrong checksum. Remove what is damaged below .*/node-data; the next"
    with pytest.raises(StagingError, match=message):
        stage(consignment, stored, shelf)
    stored.store.remove(damaged)
    with pytest.raises(StagingError, match=r"cannot get the corpus x/y from file:.*big.bin.0003.*Remove what is"):
        stage(consignment, stored, shelf)


def test_a_file_that_changes_while_it_is_sent_is_told(origin: Path, consignment: Consignment, tmp_path: Path) -> None:
    stored = StoredConsignments(open_store(str(tmp_path / "storage"), patience=0))
    (origin / "sub/even.bin").write_bytes(bytes(SIZES["sub/even.bin"]))
    with pytest.raises(UserError, match=r"the corpus x/y cannot be sent to .* must not change meanwhile"):
        put(stored, consignment, origin)
