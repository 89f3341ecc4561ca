"""Preparing CREMA-D: full disks, kills, damage and repetition leave a whole corpus or none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crema_d import prepare as prepare_module
from crema_d.prepare import prepare, prepare_once
from ser_data import prepare_corpus
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_data.prepared_folder import LOCK_FILE

Write = Callable[..., Path]
FILES = {"corpus.json", "manifest.csv", "waveforms.i16", LOCK_FILE}
DEMOGRAPHICS = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
needs_full_device = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full"
)


def prepared(source: Path, out: Path | None = None) -> Corpus:
    return prepare(source, out or source.parent / "prepared", jobs=1, progress=False)


@needs_full_device
@pytest.mark.parametrize("name", ["waveforms.i16", "manifest.csv", "corpus.json"])
def test_a_full_disk_is_named_with_the_space_needed_and_leaves_nothing(
    write_folder: Write, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"the disk of .*out is full: about .* \(96000 bytes\) are needed.*--cache-dir"):
        prepared(write_folder(tmp_path / "raw"), out)
    assert {path.name for path in out.iterdir()} <= {LOCK_FILE}


@needs_full_device
def test_a_disk_that_fills_up_on_the_way_leaves_the_old_corpus(
    write_folder: Write, write_clip: Write, tmp_path: Path
) -> None:
    raw = write_folder(tmp_path / "raw")
    before = prepared(raw)
    write_clip(raw / "1009_DFA_ANG_XX.wav")
    (before.folder / "manifest.csv.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match="is full"):
        prepared(raw)
    assert open_corpus(before.folder).manifest_hash == before.manifest_hash


def test_a_killed_preparation_leaves_nothing_that_looks_finished_and_can_be_repeated(
    write_folder: Write, tmp_path: Path
) -> None:
    source, out = write_folder(tmp_path / "raw"), tmp_path / "out"
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from crema_d.prepare import prepare\n"
        "from ser_data import prepare_corpus\n"
        "pack = prepare_corpus.pack_clip\n"
        "def slow(files, open_file):\n"
        "    if '1002_DFA_HAP_XX.wav' in files:\n"
        "        Path('reached').touch(); time.sleep(600)\n"
        "    return pack(files, open_file)\n"
        "prepare_corpus.pack_clip = slow\n"
        "prepare(Path('raw'), Path('out'), jobs=1, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "reached").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="is not a prepared corpus"):
        open_corpus(out)
    repeated = prepared(source, out)
    fresh = prepared(source, tmp_path / "fresh")
    assert repeated.manifest_hash == fresh.manifest_hash
    assert {path.name for path in out.iterdir()} == FILES
    assert (out / "waveforms.i16").read_bytes() == (fresh.folder / "waveforms.i16").read_bytes()


def test_an_interrupt_leaves_nothing(write_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_corpus, "pack_clip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(write_folder(tmp_path / "raw"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def count_plans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The sources that were really read, in order."""
    plans: list[Path] = []
    make_plan = prepare_module._plan

    def counted(source: Path) -> object:
        plans.append(source)
        return make_plan(source)

    monkeypatch.setattr(prepare_module, "_plan", counted)
    return plans


def test_an_unchanged_source_is_not_read_again(
    write_folder: Write, write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = count_plans(monkeypatch)
    raw = write_folder(tmp_path / "raw")
    first = prepared(raw)
    assert prepared(raw).manifest_hash == first.manifest_hash
    assert len(plans) == 1
    write_clip(raw / "1009_DFA_ANG_XX.wav")
    assert len(prepared(raw).clips) == 7
    (tmp_path / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    assert "sex" in prepared(raw).clips
    assert len(plans) == 3


@pytest.mark.parametrize("name", ["corpus.json", "manifest.csv", "waveforms.i16"])
def test_a_damaged_prepared_folder_is_made_anew(write_folder: Write, tmp_path: Path, name: str) -> None:
    raw = write_folder(tmp_path / "raw")
    corpus = prepared(raw)
    (corpus.folder / name).write_bytes(b"damaged")
    assert prepared(raw).manifest_hash == corpus.manifest_hash


def test_other_files_in_the_output_folder_stay(write_folder: Write, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test_ledger.json").write_text("{}")
    prepared(write_folder(tmp_path / "raw"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "test_ledger.json"}


def test_a_raw_folder_is_prepared_once_into_a_cache(
    write_folder: Write, write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = count_plans(monkeypatch)
    raw = write_folder(tmp_path / "my raw")
    first = prepare_once(raw, tmp_path / "cache", progress=False)
    assert first.parent == tmp_path / "cache" / "corpora"
    assert first.name.startswith("my_raw-")
    assert prepare_once(raw, tmp_path / "cache", progress=False) == first
    assert len(plans) == 1
    write_clip(raw / "1009_DFA_ANG_XX.wav")
    second = prepare_once(raw, tmp_path / "cache", progress=False)
    assert second != first
    assert (len(open_corpus(first).clips), len(open_corpus(second).clips)) == (6, 7)


def test_two_processes_at_once_prepare_once(write_folder: Write, tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", actors=[f"10{n:02}" for n in range(1, 9)])
    command = [sys.executable, "-m", "crema_d.prepare", "raw", "--out", "out", "--jobs", "1"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(open_corpus(tmp_path / "out").clips) == 24
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
