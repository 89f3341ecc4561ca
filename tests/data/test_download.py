"""Download, against a server on this machine that truncates, stalls, refuses ranges and answers 404."""

import hashlib
import io
import re
import socket
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.hf_api import RepoFile

from crema_d import official
from crema_d.download import main
from crema_d.fetch import Checksum, Fetcher, FetchError, NoConnectionError, Patience, Stopped
from crema_d.hub import download_mirror
from crema_d.official import Repository, download_official
from crema_d.release import ArchiveError, parse_pointer, read_checksums, unpack_archive, write_checksums
from ser_data.command import exit_code
from ser_data.errors import UserError

PATIENCE = Patience(
    attempts=4, connect_seconds=2.0, read_seconds=0.3, first_wait_seconds=0.01, longest_wait_seconds=0.05
)
BODY = bytes(np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8))

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.faults`` holds what to do instead, once each, by path."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        faults = self.server.faults.get(self.path)
        if faults:
            faults.pop(0)(self)
        elif self.path not in self.server.files:
            self.answer(404, b"")
        else:
            self.answer_with_ranges()

    def answer_with_ranges(self) -> None:
        body = self.server.files[self.path]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None:
            self.answer(200, body)
            return
        start = int(match[1])
        if start >= len(body):
            self.answer(416, b"")
            return
        self.answer(206, body[start:], {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: int | None = None
    ) -> None:
        """Answer; with *cut*, only so many bytes of the promised body, and the connection ends."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()  # set at the end, so that stalled answers end too

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


# What a bad server does instead of answering.


def truncate(handler: Handler) -> None:
    handler.answer(200, handler.server.files[handler.path], cut=100_000)


def stall(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(handler.server.files[handler.path])))
    handler.end_headers()
    handler.wfile.write(handler.server.files[handler.path][:50_000])
    handler.wfile.flush()
    handler.server.released.wait(10)
    handler.close_connection = True


def refuse_range(handler: Handler) -> None:
    handler.answer(200, handler.server.files[handler.path])


def damage(handler: Handler) -> None:
    body = bytearray(handler.server.files[handler.path])
    body[1000] ^= 255
    handler.answer(200, bytes(body))


def send_pointer(handler: Handler) -> None:
    handler.answer(200, pointer_to(handler.server.files[handler.path]))


def busy(handler: Handler) -> None:
    handler.answer(429, b"", {"Retry-After": "0.02"})


def fail(handler: Handler) -> None:
    handler.answer(500, b"")


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def pointer_to(body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(body)}\n".encode()


def checksum_of(body: bytes) -> Checksum:
    return Checksum(len(body), hashlib.sha256(body).hexdigest())


def fetch(server: Server, target: Path, *faults: Answer, checksum: Checksum | None = None) -> int:
    server.files["/clip"] = BODY
    server.faults["/clip"] = list(faults)
    return Fetcher(PATIENCE).fetch(f"{server.url}/clip", target, checksum=checksum or checksum_of(BODY))


# One file.


@pytest.mark.parametrize("fault", [truncate, stall, damage, send_pointer, busy, fail, hang_up])
def test_one_fault_is_survived_and_the_file_is_right(server, tmp_path, fault):
    target = tmp_path / "clip.wav"
    fetch(server, target, fault)
    assert target.read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]


def test_broken_transfer_goes_on_where_it_broke_off(server, tmp_path):
    received = fetch(server, tmp_path / "clip.wav", truncate)
    ranges = [span for _, span in server.requests]
    assert ranges[0] is None
    start = int(re.fullmatch(r"bytes=(\d+)-", ranges[1])[1])
    assert 0 < start <= 100_000
    assert received < 1.1 * len(BODY)


def test_part_of_an_earlier_run_is_continued(server, tmp_path):
    (tmp_path / "clip.wav.part").write_bytes(BODY[:200_000])
    assert fetch(server, tmp_path / "clip.wav") == 100_000
    assert server.requests == [("/clip", "bytes=200000-")]
    assert (tmp_path / "clip.wav").read_bytes() == BODY


def test_server_without_ranges_sends_the_whole_file_again(server, tmp_path):
    (tmp_path / "clip.wav.part").write_bytes(BODY[:200_000])
    assert fetch(server, tmp_path / "clip.wav", refuse_range) == len(BODY)
    assert (tmp_path / "clip.wav").read_bytes() == BODY


@pytest.mark.parametrize("part", [BODY + b"more", b"something else" * 20_000, BODY[::-1]])
def test_part_of_another_file_is_thrown_away(server, tmp_path, part):
    (tmp_path / "clip.wav.part").write_bytes(part)
    fetch(server, tmp_path / "clip.wav")
    assert (tmp_path / "clip.wav").read_bytes() == BODY


def test_missing_file_is_not_asked_for_twice(server, tmp_path):
    with pytest.raises(FetchError, match="the server answered 404"):
        Fetcher(PATIENCE).fetch(f"{server.url}/nothing", tmp_path / "clip.wav", checksum=checksum_of(BODY))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (fail, r"the server answered 500 .*\(4 attempts\)"),
        (stall, r"no byte for 0\.3 s \(4 attempts\)"),
        (damage, r"its sha256 is wrong \(4 attempts\)"),
        (send_pointer, r"a Git LFS pointer came in place of the file \(4 attempts\)"),
        (hang_up, r"the connection broke: .*\(4 attempts\)"),
    ],
)
def test_lasting_fault_is_named_after_the_last_attempt(server, tmp_path, fault, message):
    with pytest.raises(FetchError, match=message):
        fetch(server, tmp_path / "clip.wav", *[fault] * PATIENCE.attempts)
    assert not (tmp_path / "clip.wav").exists()


def test_nobody_at_the_address_is_told_from_a_broken_connection(tmp_path, unused_address):
    with pytest.raises(NoConnectionError, match=r"no connection: .*refused"):
        Fetcher(PATIENCE).fetch(f"{unused_address}/clip", tmp_path / "clip.wav", checksum=None)


def test_stopped_fetcher_ends_at_the_next_wait(server, tmp_path):
    fetcher = Fetcher(Patience(first_wait_seconds=60.0))

    def stop_and_fail(handler: Handler) -> None:
        fetcher.stop()
        fail(handler)

    server.faults["/clip"] = [stop_and_fail]
    with pytest.raises(Stopped):
        fetcher.fetch(f"{server.url}/clip", tmp_path / "clip.wav", checksum=None)


# The whole repository.

CLIPS = {
    f"AudioWAV/{actor}_{sentence}_{emotion}_XX.wav": bytes([actor % 251]) * 2_000 + f"{sentence}{emotion}".encode()
    for actor in (1001, 1002, 1003)
    for sentence in ("DFA", "WSI")
    for emotion in ("ANG", "SAD")
}
TABLES = {"VideoDemographics.csv": b"ActorID,Age\n1001,51\n", "processedResults/summaryTable.csv": b"FileName\n"}


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("CREMA-D-master/", b"")
        for name, content in files.items():
            archive.writestr(f"CREMA-D-master/{name}", content)
    return buffer.getvalue()


@pytest.fixture
def repository(server: Server) -> Repository:
    stubs = {name: pointer_to(body) for name, body in CLIPS.items()}
    videos = {"VideoFlash/1001_DFA_ANG_XX.flv": pointer_to(b"video")}
    server.files["/archive"] = archive_of({**stubs, **videos, **TABLES, "README.md": b"", "../evil.csv": b""})
    server.files |= {f"/media/{name}": body for name, body in CLIPS.items()}
    return Repository(archive_url=f"{server.url}/archive", media_url=f"{server.url}/media")


def run(to: Path, repository: Repository, *, jobs: int = 2) -> official.Report:
    return download_official(to, jobs=jobs, repository=repository, patience=PATIENCE, progress=False)


def test_clips_and_tables_come_and_nothing_else(tmp_path, repository):
    report = run(tmp_path / "crema_d", repository)
    found = {
        str(path.relative_to(tmp_path / "crema_d")): path.read_bytes()
        for path in (tmp_path / "crema_d").rglob("*")
        if path.is_file()
    }
    assert found.pop("checksums.csv")
    assert found == CLIPS | TABLES
    assert (report.num_fetched, report.num_there, report.failed) == (12, 0, {})
    assert report.num_bytes == sum(map(len, CLIPS.values()))


def test_second_run_asks_for_nothing(tmp_path, repository, server):
    run(tmp_path, repository)
    server.requests.clear()
    report = run(tmp_path, repository)
    assert server.requests == []
    assert (report.num_there, report.num_fetched) == (12, 0)


def test_missing_damaged_and_pointer_files_are_fetched_again_and_no_others(tmp_path, repository, server):
    run(tmp_path, repository)
    missing, damaged, pointer = list(CLIPS)[:3]
    (tmp_path / missing).unlink()
    (tmp_path / damaged).write_bytes(CLIPS[damaged][::-1])
    (tmp_path / pointer).write_bytes(pointer_to(CLIPS[pointer]))
    server.requests.clear()
    assert run(tmp_path, repository).num_fetched == 3
    assert {path for path, _ in server.requests} == {f"/media/{name}" for name in (missing, damaged, pointer)}
    assert all((tmp_path / name).read_bytes() == body for name, body in CLIPS.items())


def test_faults_of_single_clips_are_survived(tmp_path, repository, server):
    faults = [stall, damage, send_pointer, busy, fail, hang_up]
    server.faults = {f"/media/{name}": [fault] for name, fault in zip(CLIPS, faults, strict=False)}
    assert run(tmp_path, repository, jobs=4).failed == {}
    assert all((tmp_path / name).read_bytes() == body for name, body in CLIPS.items())


def test_clip_that_is_not_there_is_reported_and_the_others_come(tmp_path, repository, server):
    gone = next(iter(CLIPS))
    del server.files[f"/media/{gone}"]
    report = run(tmp_path, repository)
    assert report.failed == {gone: "the server answered 404 Not Found"}
    assert report.num_fetched == 11


def test_one_failure_after_another_ends_the_download_early(tmp_path, repository, server, monkeypatch):
    monkeypatch.setattr(official, "_FAILURES_IN_A_ROW", 3)
    server.files = {"/archive": server.files["/archive"]}
    with pytest.raises(UserError, match=r"3 clips in a row .*404.*monthly budget.*goes on from there.*huggingface"):
        run(tmp_path, repository, jobs=1)
    assert Counter(path for path, _ in server.requests).total() < 12


def test_truncated_archive_is_fetched_anew_not_continued(tmp_path, repository, server):
    server.faults["/archive"] = [lambda handler: handler.answer(200, server.files["/archive"], cut=50)]
    assert run(tmp_path, repository).num_fetched == 12
    assert [span for path, span in server.requests if path == "/archive"] == [None, None]


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"no archive", "it is damaged"),
        (archive_of(TABLES), r"it holds no AudioWAV/\*\.wav"),
        (archive_of({"AudioWAV/1001_DFA_ANG_XX.wav": b"RIFF"}), "XX.wav is no Git LFS pointer"),
    ],
)
def test_unusable_archive_says_what_is_wrong_and_the_other_ways(tmp_path, repository, server, archive, message):
    server.files["/archive"] = archive
    with pytest.raises(UserError, match=rf"no list of clips from .*{message}.*--source huggingface.*--data sample"):
        run(tmp_path, repository)
    assert not (tmp_path / "repository.zip").exists()


@pytest.fixture
def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_no_network_is_said_plainly_with_the_other_ways(tmp_path, unused_address):
    nowhere = Repository(archive_url=f"{unused_address}/archive", media_url=f"{unused_address}/media")
    with pytest.raises(UserError, match=r"cannot be reached: no connection.*HTTPS_PROXY.*--data sample"):
        run(tmp_path, nowhere)


def test_full_disk_is_noticed_before_the_first_clip(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(official.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"0 MB are to come, and 0 MB are free under .*Free some space"):
        run(tmp_path, repository)


def test_disk_that_fills_up_is_named(tmp_path, repository, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Fetcher, "fetch", fill)
    with pytest.raises(UserError, match=r"the disk under .* is full\. Free some space; the same command"):
        run(tmp_path, repository)


def test_target_that_is_a_file_is_named(tmp_path, repository):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be written: .*Give another folder with --to"):
        run(tmp_path / "file", repository)


def test_interrupted_download_goes_on(tmp_path, repository, server, monkeypatch):
    interrupted = list(CLIPS)[5]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(official, "_collect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, repository)
    (tmp_path / interrupted).unlink(missing_ok=True)
    (tmp_path / f"{interrupted}.part").write_bytes(CLIPS[interrupted][:500])
    server.requests.clear()
    run(tmp_path, repository)
    assert (f"/media/{interrupted}", "bytes=500-") in server.requests
    assert all((tmp_path / name).read_bytes() == body for name, body in CLIPS.items())


def test_checksums_survive_writing_and_a_damaged_list_is_not_used(tmp_path):
    checksums = {name: checksum_of(body) for name, body in CLIPS.items()}
    write_checksums(checksums, tmp_path / "checksums.csv")
    assert read_checksums(tmp_path / "checksums.csv") == checksums
    (tmp_path / "checksums.csv").write_text("file,size\n../../etc/passwd,3\n")
    assert read_checksums(tmp_path / "checksums.csv") is None
    assert read_checksums(tmp_path / "nothing.csv") is None


def test_archive_with_an_oversized_pointer_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(archive_of({"AudioWAV/1001_DFA_ANG_XX.wav": b"x" * 5000}))
    with pytest.raises(ArchiveError, match="is no Git LFS pointer"):
        unpack_archive(tmp_path / "a.zip", tmp_path)


def test_pointer_with_an_extension_line_is_read():
    text = pointer_to(b"abc").replace(b"oid", b"ext-0-foo sha256:00\noid")
    assert parse_pointer(text) == checksum_of(b"abc")
    assert parse_pointer(b"RIFF....WAVE") is None


# The mirror on the Hub: the library does the transfer; what is tested is what is asked of it and what is made of it.


def hub_file(path: str, body: bytes, *, lfs: bool = True) -> RepoFile:
    blob_id = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    stated = {"size": len(body), "oid": hashlib.sha256(body).hexdigest(), "pointerSize": 130} if lfs else None
    return RepoFile(path=path, size=len(body), oid=blob_id, lfs=stated)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Hub of one dataset: ``files`` is what it states, ``sent`` what arrives."""
    state = SimpleNamespace(files=[], sent={}, arguments={})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, mirror: SimpleNamespace(sha="commit"))
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda self, mirror, **_: iter(state.files))

    def snapshot_download(mirror: str, **arguments: object) -> None:
        state.arguments = arguments
        for path, body in state.sent.items():
            target = Path(str(arguments["local_dir"])) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def test_mirror_is_fetched_at_one_revision_and_checked(hub, tmp_path):
    bodies = {"CREMA_D/1001_DFA_ANG_XX.wav": b"loud", "CREMA_D/1001_DFA_SAD_XX.wav": b"quiet"}
    hub.files = [hub_file(path, body, lfs=body == b"loud") for path, body in bodies.items()]
    hub.sent = bodies
    assert download_mirror(tmp_path, jobs=3) == 2
    assert hub.arguments["revision"] == "commit"
    assert hub.arguments["max_workers"] == 3
    assert "*.wav" in hub.arguments["allow_patterns"]


def test_damaged_files_of_a_mirror_are_removed_and_counted(hub, tmp_path):
    paths = [f"1001_DFA_{emotion}_XX.wav" for emotion in ("ANG", "SAD", "HAP")]
    hub.files = [hub_file(paths[0], b"one"), hub_file(paths[1], b"two", lfs=False), hub_file(paths[2], b"three")]
    hub.sent = {paths[0]: b"one", paths[1]: b"wrong"}
    with pytest.raises(UserError, match=r"2 clips came damaged from .*e\.g\. 1001_DFA_SAD_XX\.wav\. Run the same"):
        download_mirror(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [paths[0]]


def test_mirror_without_clips_under_their_names_is_refused(hub, tmp_path):
    hub.files = [hub_file("data/train-00000-of-00002.parquet", b""), hub_file("audio/1.wav", b"")]
    with pytest.raises(UserError, match=r"me/parquet .* has no audio files named like 1001_DFA_ANG_XX\.wav.*--repo"):
        download_mirror(tmp_path, mirror="me/parquet")
    assert list(tmp_path.iterdir()) == []


def test_unreachable_hub_is_said_plainly(tmp_path, unused_address):
    with pytest.raises(UserError, match=r"cannot be reached: .*refused.*HTTPS_PROXY.*HF_HUB_OFFLINE"):
        download_mirror(tmp_path, endpoint=unused_address)


def test_unknown_dataset_says_what_to_give_instead(tmp_path, server):
    with pytest.raises(UserError, match=r"cannot be read: .*--repo OWNER/NAME, or use --source official"):
        download_mirror(tmp_path, mirror="no/body", endpoint=server.url)


def test_malformed_dataset_name_says_what_to_give_instead(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read: .*--repo OWNER/NAME"):
        download_mirror(tmp_path, mirror="not a name")


# The command.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], r"--jobs 0 is out of range: 1 to 32 connections\. 8 is usual\."),
        (["--repo", "me/it"], r"--repo me/it needs --source huggingface\."),
    ],
)
def test_bad_arguments_end_with_2_and_a_message(tmp_path, capsys, arguments, message):
    assert exit_code(main, ["--to", str(tmp_path), *arguments]) == 2
    assert re.search(f"^error: {message}", capsys.readouterr().err)


def test_command_tells_what_came_and_what_comes_next(tmp_path, capsys, repository, monkeypatch):
    monkeypatch.setattr("crema_d.download.download_official", lambda to, jobs: run(to, repository, jobs=jobs))
    assert main(["--to", str(tmp_path), "--jobs", "2"]) == 0
    output = capsys.readouterr().out
    assert "Open Database License" in output
    assert "12 clips in" in output
    assert f"next: python -m crema_d.prepare {tmp_path} --out" in output


def test_command_ends_with_1_and_names_the_clips_that_failed(tmp_path, capsys, repository, server, monkeypatch):
    del server.files["/media/AudioWAV/1001_DFA_ANG_XX.wav"]
    monkeypatch.setattr("crema_d.download.download_official", lambda to, jobs: run(to, repository, jobs=jobs))
    assert main(["--to", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "could not be had: 1" in output
    assert "AudioWAV/1001_DFA_ANG_XX.wav: the server answered 404" in output
    assert "run the same command again" in output
