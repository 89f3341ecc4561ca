"""The sample corpus: CREMA-D's layout, equal bytes for equal seeds, learnable but not trivial."""

import csv
import hashlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sample_corpus
from crema_d import SPLITS_FOLDER
from crema_d.naming import EMOTION_CODES, SENTENCES
from sample_corpus import corpus as sample_module
from sample_corpus.__main__ import main
from sample_corpus.cast import CAST, LEVELS
from sample_corpus.prosody import STYLES
from sample_corpus.speaker import planned_clips
from ser_data.errors import UserError
from ser_data.split_files import read_assignment, split_files

SMALL = {"num_actors": 3, "sentences": ("DFA", "IEO"), "progress": False}
CLIP_NAME = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX)\.wav")

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader (extra `sample`) is not installed"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_corpus.generate(tmp_path_factory.mktemp("sample") / "small", jobs=1, **SMALL)


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs_espeak
def test_same_seed_gives_the_same_bytes_for_any_number_of_processes(small, tmp_path):
    assert checksums(sample_corpus.generate(tmp_path / "again", jobs=2, **SMALL)) == checksums(small)


@needs_espeak
def test_another_seed_gives_other_clips(small, tmp_path):
    other = sample_corpus.generate(tmp_path / "other", seed=1, num_actors=1, sentences=("DFA",), progress=False)
    name = "AudioWAV/1009_DFA_ANG_XX.wav"
    assert checksums(other)[name] != checksums(small)[name]


@needs_espeak
def test_clips_have_names_and_format_of_crema_d(small):
    clips = sorted((small / "AudioWAV").iterdir())
    assert len(clips) == 3 * 2 * 6
    for path in clips:
        actor, sentence, emotion, level = CLIP_NAME.fullmatch(path.name).groups()
        assert actor in {"1009", "1015", "1047"}
        assert (level in LEVELS) == (sentence == "IEO" and emotion != "NEU")
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 1.0 < info.duration < 6.0


@needs_espeak
def test_clips_are_neither_silent_nor_clipped_and_differ(small):
    for path in (small / "AudioWAV").iterdir():
        samples, _ = soundfile.read(path)
        assert 0.003 < np.sqrt(np.mean(samples**2)) < 0.4
        assert np.mean(np.abs(samples) > 0.999) < 0.001
    digests = [digest for name, digest in checksums(small).items() if name.endswith(".wav")]
    assert len(set(digests)) == len(digests)


@needs_espeak
def test_angry_clips_are_louder_than_sad_ones(small):
    def mean_rms(emotion: str) -> float:
        clips = (small / "AudioWAV").glob(f"*_{emotion}_*.wav")
        return float(np.mean([np.sqrt(np.mean(soundfile.read(path)[0] ** 2)) for path in clips]))

    assert mean_rms("ANG") > 1.5 * mean_rms("SAD")


@needs_espeak
def test_folder_says_that_its_speech_is_generated(small):
    marker = json.loads((small / sample_corpus.MARKER_FILE).read_text())
    assert marker["name"] == "sample"
    assert marker["seed"] == 0
    assert "not the people of CREMA-D" in marker["note"]


@needs_espeak
def test_demographics_list_every_actor_once(small):
    with (small / "VideoDemographics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ActorID"] for row in rows] == ["1009", "1015", "1047"]
    assert {row["Race"] for row in rows} == {"Generated"}


@needs_espeak
def test_second_call_finds_the_corpus_and_writes_nothing(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert sample_corpus.generate(small, **SMALL) == small
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


@needs_espeak
def test_folder_with_another_sample_corpus_is_refused(small):
    with pytest.raises(UserError, match=r"holds another sample corpus \(seed 0, not 7\)\. Delete that folder"):
        sample_corpus.generate(small, seed=7, **SMALL)


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there and is no sample corpus"):
        sample_corpus.generate(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_actors": 17}, "num_actors = 17 is out of range: 1 to 16"),
        ({"num_actors": 0}, "num_actors = 0 is out of range: 1 to 16"),
        ({"sentences": ("DFA",), "per_emotion": 2}, "per_emotion = 2 is out of range: 1 to 1"),
        ({"sentences": ("ABC",)}, r"sentences = \['ABC'\]: give one or more of IEO, TIE"),
        ({"sentences": ()}, "give one or more of IEO"),
        ({"jobs": 0}, "jobs = 0: at least one process"),
    ],
)
def test_arguments_out_of_range_name_what_is_accepted(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        sample_corpus.generate(tmp_path / "out", **arguments)


def test_missing_espeak_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install espeakng-loader.*extra `sample`.*make search"):
        sample_corpus.generate(tmp_path / "out", **SMALL)
    assert list(tmp_path.iterdir()) == []


@needs_espeak
def test_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample_module, "_speak_one", fail)
    with pytest.raises(UserError, match=r"cannot be written to .*out: .*No space left on device.*60 MB"):
        sample_corpus.generate(tmp_path / "out", **SMALL)
    assert list(tmp_path.iterdir()) == []


@needs_espeak
def test_command_says_where_the_clips_are_and_what_comes_next(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), "--actors", "1"]) == 0
    output = capsys.readouterr().out
    assert "48 clips of generated speech in" in output
    assert "python -m crema_d.prepare" in output


def test_voices_are_all_different():
    assert len({actor.number for actor in CAST}) == len(CAST) == 16
    assert len({actor.variant for actor in CAST}) == len(CAST)
    assert set(STYLES) == set(EMOTION_CODES)


def test_plan_is_balanced_over_emotions_and_depends_on_the_seed():
    names = planned_clips(CAST[0], list(SENTENCES), per_emotion=8, seed=0)
    assert [sum(f"_{code}_" in name for name in names) for code in EMOTION_CODES] == [8] * 6
    assert len(set(names)) == len(names)
    assert names == planned_clips(CAST[0], list(SENTENCES), per_emotion=8, seed=0)
    assert names != planned_clips(CAST[0], list(SENTENCES), per_emotion=8, seed=1)


@pytest.mark.parametrize("name", ["tfds", "audeering", *(f"emo_superb:{fold}" for fold in range(1, 6))])
def test_every_committed_split_by_actor_fits_the_cast(name):
    part_of = read_assignment(name, split_files(SPLITS_FOLDER)[name.partition(":")[0]]).part_of
    parts = [part_of[actor.number] for actor in CAST]
    counts = [parts.count(part) for part in ("train", "validation", "test")]
    assert min(counts[1:]) >= 3
    if name == "tfds":
        assert counts == [10, 3, 3]
        assert all(len(set(parts[:size])) == 3 for size in range(3, 17))


@pytest.mark.slow
@needs_espeak
def test_mfcc_statistics_learn_it_but_not_perfectly(tmp_path):
    import torch
    import torchaudio
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    transform = torchaudio.transforms.MFCC(16_000, n_mfcc=40, melkwargs={"n_fft": 512, "hop_length": 160, "n_mels": 64})
    part_of = read_assignment("tfds", split_files(SPLITS_FOLDER)["tfds"]).part_of
    inputs: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    labels: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for path in sorted(sample_corpus.generate(tmp_path / "sample", progress=False).rglob("*.wav")):
        actor, _, emotion, _ = path.stem.split("_")
        samples, _ = soundfile.read(path, dtype="float32")
        frames = transform(torch.from_numpy(samples)).numpy()
        inputs[part_of[actor]].append(np.concatenate([frames.mean(axis=1), frames.std(axis=1)]))
        labels[part_of[actor]].append(emotion)
    model = make_pipeline(StandardScaler(), SVC(C=3)).fit(inputs["train"], labels["train"])
    uar = balanced_accuracy_score(labels["validation"], model.predict(inputs["validation"]))
    assert 0.5 < uar < 0.95
