"""Preparing CREMA-D: which clips are found, in which form they are packed, and what the release's tables add."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from crema_d import EMOTIONS
from crema_d.prepare import prepare
from ser_data.corpus import Corpus

Write = Callable[..., Path]
EMOTION_CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def prepared(source: Path, out: Path | None = None) -> Corpus:
    return prepare(source, out or source.parent / "prepared", jobs=1, progress=False)


def test_every_clip_is_a_row_with_what_its_name_says(write_folder: Write, tmp_path: Path) -> None:
    corpus = prepared(write_folder(tmp_path / "raw"))
    assert (corpus.name, corpus.kind, corpus.generated) == ("crema_d", "crema_d", False)
    assert (corpus.emotions, corpus.default_split) == (EMOTIONS, "tfds")
    row = corpus.clips.iloc[1]
    assert row[["clip", "file", "actor", "sentence", "emotion", "level"]].tolist() == [
        "1001_DFA_HAP_XX", "1001_DFA_HAP_XX.wav", "1001", "DFA", "happy", "XX",
    ]  # fmt: skip
    assert row["duration"] == 0.5
    assert list(corpus.clips.index) == list(range(6))
    assert corpus.labels().tolist() == [0, 3, 5] * 2
    assert corpus.labels(["sad", "happy"]).tolist() == [-1, 1, 0] * 2


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_packed_samples_are_those_of_soxr(write_clip: Write, tmp_path: Path, rate: int, channels: int) -> None:
    path = write_clip(tmp_path / "raw" / "1001_DFA_ANG_XX.flac", rate=rate, channels=channels)
    corpus = prepared(tmp_path / "raw")
    source, _ = soundfile.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(source[:, 0], rate, 16_000) if rate != 16_000 else source[:, 0]
    np.testing.assert_allclose(corpus.waveforms.float32(0), expected, atol=0.51 / 32_768)
    assert len(corpus.waveforms) == 1


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".opus"])
def test_every_format_is_prepared(write_folder: Write, tmp_path: Path, suffix: str) -> None:
    corpus = prepared(write_folder(tmp_path / "raw", suffix=suffix))
    assert len(corpus.clips) == 6
    assert all(abs(len(samples) - 8_000) < 1_600 for samples in corpus.waveforms)


def test_nested_flat_and_zipped_sources_give_the_same_corpus(write_folder: Write, tmp_path: Path) -> None:
    flat = write_folder(tmp_path / "flat")
    nested = tmp_path / "nested"
    for path in flat.iterdir():
        target = nested / path.name[:4] / "take" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in flat.iterdir():
            archive.write(path, f"CREMA-D/AudioWAV/{path.name}")
            archive.writestr(f"__MACOSX/CREMA-D/AudioWAV/._{path.name}", b"\0\5\x16\7")
    corpora = [prepared(source, tmp_path / f"out_{source.stem}") for source in (flat, nested, tmp_path / "zipped.zip")]
    assert {len(corpus.clips) for corpus in corpora} == {6}
    assert len({corpus.manifest_hash for corpus in corpora}) == 1
    assert len({(corpus.folder / "waveforms.i16").read_bytes() for corpus in corpora}) == 1


def test_lossless_copies_in_another_format_give_the_same_hash(write_folder: Write, tmp_path: Path) -> None:
    wav = prepared(write_folder(tmp_path / "wav", suffix=".wav"), tmp_path / "out_wav")
    flac = prepared(write_folder(tmp_path / "flac", suffix=".flac"), tmp_path / "out_flac")
    assert wav.manifest_hash == flac.manifest_hash


def test_the_number_of_jobs_changes_nothing(write_folder: Write, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "raw", actors=[f"10{n:02}" for n in range(1, 15)], emotions=EMOTION_CODES)
    one = prepare(source, tmp_path / "one", jobs=1, progress=False)
    four = prepare(source, tmp_path / "four", jobs=4, progress=False)
    for name in ("manifest.csv", "waveforms.i16"):
        assert (one.folder / name).read_bytes() == (four.folder / name).read_bytes()


def test_a_lossless_copy_is_preferred_and_a_clip_is_one_row(write_folder: Write, tmp_path: Path) -> None:
    for folder, suffix in (("AudioMP3", ".mp3"), ("AudioWAV", ".wav"), ("AudioOpus", ".opus")):
        write_folder(tmp_path / "raw" / folder, suffix=suffix)
    corpus = prepared(tmp_path / "raw")
    assert len(corpus.manifest) == 6
    assert set(corpus.clips["file"].map(os.path.dirname)) == {"AudioWAV"}
    notes = json.loads((corpus.folder / "corpus.json").read_text())["notes"]
    assert any("12 files are other copies of a clip" in note for note in notes)


def test_of_two_lossless_folders_the_fuller_one_is_used(write_folder: Write, tmp_path: Path) -> None:
    write_folder(tmp_path / "raw" / "A_few", actors=("1001",), suffix=".flac")
    write_folder(tmp_path / "raw" / "Z_all", suffix=".wav")
    assert set(prepared(tmp_path / "raw").clips["file"].map(os.path.dirname)) == {"Z_all"}


def test_another_copy_stands_in_for_one_that_cannot_be_used(
    write_folder: Write, tmp_path: Path, lfs_pointer: str
) -> None:
    write_folder(tmp_path / "raw" / "AudioMP3", suffix=".mp3")
    for path in write_folder(tmp_path / "raw" / "AudioWAV").iterdir():
        path.write_text(lfs_pointer)
    corpus = prepared(tmp_path / "raw")
    assert set(corpus.clips["file"].map(os.path.dirname)) == {"AudioMP3"}
    assert (corpus.manifest["excluded"] == "").all()


def test_a_marker_file_says_that_speech_is_generated(write_folder: Write, tmp_path: Path) -> None:
    (write_folder(tmp_path / "raw") / "sample_corpus.json").touch()
    corpus = prepared(tmp_path / "raw")
    assert (corpus.name, corpus.generated, corpus.kind) == ("sample", True, "crema_d")


DEMOGRAPHICS = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
VOTES = (
    '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
    '"1","1001_DFA_ANG_XX","A:D","37.2:58.6","A","45.5","N","44"\n'
)


@pytest.mark.parametrize("place", ["raw/metadata", "raw", "metadata", "."])
def test_tables_in_the_source_or_beside_it_are_joined(write_folder: Write, tmp_path: Path, place: str) -> None:
    write_folder(tmp_path / "raw")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    (tmp_path / place / "summaryTable.csv").write_text(VOTES)
    clips = prepared(tmp_path / "raw").clips.set_index("clip")
    known, unknown = clips.loc["1001_DFA_ANG_XX"], clips.loc["1002_DFA_ANG_XX"]
    assert known[["sex", "age", "race", "ethnicity"]].tolist() == ["male", 51, "Caucasian", "Not Hispanic"]
    assert known[["voice_vote", "face_vote", "multimodal_vote"]].tolist() == ["anger:disgust", "anger", "neutral"]
    assert known["voice_level"] == pytest.approx((37.2 + 58.6) / 2)
    assert unknown["sex"] == unknown["voice_vote"] == ""
    assert np.isnan(unknown["voice_level"])


def test_tables_in_an_archive_are_joined(write_folder: Write, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in write_folder(tmp_path / "clips").iterdir():
            archive.write(path, f"audio/{path.name}")
        archive.writestr("tables/VideoDemographics.csv", DEMOGRAPHICS)
    clips = prepared(tmp_path / "raw.zip").clips
    assert set(clips["sex"]) == {"male", ""}
    assert "voice_vote" not in clips


def test_a_table_that_cannot_be_used_is_noted_and_does_no_harm(
    write_folder: Write, tmp_path: Path, lfs_pointer: str
) -> None:
    source = write_folder(tmp_path / "raw")
    (source / "VideoDemographics.csv").write_text(lfs_pointer)
    corpus = prepared(source)
    notes = json.loads((corpus.folder / "corpus.json").read_text())["notes"]
    assert any("VideoDemographics.csv could not be used" in note for note in notes)
    assert any("summaryTable.csv is neither in" in note for note in notes)
    assert len(corpus.clips) == 6
