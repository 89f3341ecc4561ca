"""From what the user typed to a corpus and its parts: what is found, refused, and said beside the scores."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import soundfile

from search.corpora import TaskData, check_names, find_source, open_source, task_data
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_data.table import prepare_table

Table = Callable[[Sequence[tuple[str, ...]]], Path]


@pytest.fixture
def corpus(prepared_tone_corpus: Path) -> Corpus:
    return open_corpus(prepared_tone_corpus)


@pytest.fixture
def table(tmp_path: Path, tone: Callable[..., object]) -> Table:
    """``table([(speaker, emotion), …])``: a clips.csv with a clip for each; a third value is the split."""

    def write(rows: Sequence[tuple[str, ...]]) -> Path:
        lines = [",".join(["file", "speaker", "emotion", "split"][: len(rows[0]) + 1])]
        for number, row in enumerate(rows):
            soundfile.write(tmp_path / f"{number}.wav", tone(100.0 + number, 0.4, seed=number), 16_000)
            lines.append(",".join([f"{number}.wav", *row]))
        (tmp_path / "clips.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "clips.csv"

    return write


def test_data_is_found_in_the_order_that_help_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, environment, default = tmp_path / "given", tmp_path / "environment", tmp_path / "data" / "crema_d"
    for folder in (given, environment, default):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREMA_D_ROOT", str(environment))
    assert find_source("given") == str(given)
    assert find_source(None) == str(environment)
    monkeypatch.delenv("CREMA_D_ROOT")
    assert find_source(None) == str(default)
    assert find_source("sample") == "sample"


def test_no_data_anywhere_names_three_ways_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREMA_D_ROOT", str(tmp_path / "gone"))
    with pytest.raises(
        UserError, match=r"no corpus was found.*Three ways.*crema_d\.download.*--data FOLDER.*--data sample"
    ):
        find_source(None)


def test_data_that_is_not_there_is_named_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--data .*gone: there is no such folder or file.*'sample' for generated speech"
    ):
        find_source(str(tmp_path / "gone"))


def test_a_raw_folder_is_prepared_once_and_a_prepared_one_is_used_as_it_is(
    tone_corpus: Path, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    first = open_source(str(tone_corpus), tmp_path, jobs=1)
    written = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = open_source(str(tone_corpus), tmp_path, jobs=1)
    assert again.folder == first.folder and first.folder.is_relative_to(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in again.folder.iterdir()} == written
    assert open_source(str(prepared_tone_corpus), tmp_path, jobs=1).folder == prepared_tone_corpus
    assert first.manifest_hash == again.manifest_hash == open_corpus(prepared_tone_corpus).manifest_hash


def test_a_table_goes_through_the_same_door(table: Table, tmp_path: Path) -> None:
    path = table([("ann", "calm"), ("bob", "cross")])
    corpus = open_source(str(path), tmp_path / "cache", jobs=1)
    assert (corpus.kind, corpus.emotions) == ("table", ("calm", "cross"))


def test_the_parts_are_what_the_split_says(corpus: Corpus) -> None:
    data = task_data(corpus, "speaker_kfold:4:1", None, seed=0)
    assert data.emotions == ("anger", "disgust", "fear", "happy", "neutral", "sad")
    assert data.val_speakers == data.split.actors("validation") and len(data.val_speakers) == 2
    assert data.val_totals.tolist() == [[2] * 6] * 2


def test_emotions_keep_the_order_of_the_corpus(corpus: Corpus) -> None:
    data = task_data(corpus, "speaker_kfold:4:1", ("sad", "anger"), seed=0)
    assert data.emotions == ("anger", "sad")
    assert data.val_totals.tolist() == [[2, 2]] * 2


def test_an_unknown_emotion_is_refused_with_those_that_the_corpus_has(corpus: Corpus) -> None:
    with pytest.raises(
        UserError, match=r"emotion 'joy' is not in the corpus .*anger, disgust, fear, happy, neutral, sad"
    ):
        task_data(corpus, "tfds", ("joy", "sad"), seed=0)


def test_an_unknown_split_is_refused_with_the_known_ones(corpus: Corpus) -> None:
    with pytest.raises(
        UserError, match=r"--split 'tdfs' is not known. Known splits: .*tfds.*speaker_kfold:K:i, random"
    ):
        task_data(corpus, "tdfs", None, seed=0)


def test_a_split_with_an_empty_part_is_refused_by_the_part(tone_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "training_only"
    folder.mkdir()
    for clip in tone_corpus.glob("1001_*.wav"):
        shutil.copy(clip, folder)
    corpus = open_source(str(folder), tmp_path / "cache", jobs=1)
    with pytest.raises(UserError, match=r"--split '?tfds'?.*validation"):
        task_data(corpus, "tfds", None, seed=0)


def test_an_emotion_that_a_part_lacks_is_refused_by_part_and_name(table: Table, tmp_path: Path) -> None:
    train = [(speaker, emotion, "train") for speaker in "ab" for emotion in ("calm", "cross", "glad", "sad")]
    path = table([*train, ("c", "calm", "dev"), ("c", "glad", "dev")])
    corpus = prepare_table(path, tmp_path / "out", jobs=1, progress=False)
    message = r"--split table: its validation part has no clip of cross, sad .*leave the emotion out with --emotions"
    with pytest.raises(UserError, match=message):
        task_data(corpus, None, None, seed=0)
    assert task_data(corpus, None, ("glad", "calm"), seed=0).val_totals.tolist() == [[1, 1]]


def test_a_leaky_split_is_named_as_leaky(corpus: Corpus) -> None:
    data = task_data(corpus, "random", None, seed=0)
    assert data.split.leaky
    assert data.split.leak_note in data.notes
    assert "leak" in data.split.leak_note


def test_the_same_seed_draws_the_same_random_split(corpus: Corpus) -> None:
    first, again, other = (task_data(corpus, "random", None, seed=seed).split.parts for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_default_split_of_a_table_is_speaker_independent_and_said(table: Table, tmp_path: Path) -> None:
    rows = [(speaker, emotion) for speaker in "abcdef" for emotion in ("calm", "cross")]
    corpus = prepare_table(table(rows), tmp_path / "out", jobs=1, progress=False)
    data = task_data(corpus, None, None, seed=0)
    assert data.split.name == "speaker_kfold:5:1"
    assert "split speaker_kfold:5:1: the default of this corpus, since --split was not given" in data.notes
    assert not [note for note in task_data(corpus, "speaker_kfold:5:1", None, seed=0).notes if "default" in note]


def test_generated_speech_is_said_before_anything_else(tone_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    shutil.copytree(tone_corpus, folder)
    (folder / "sample_corpus.json").write_text("{}")
    data: TaskData = task_data(open_source(str(folder), tmp_path / "cache", jobs=1), "random", None, seed=0)
    assert data.notes[0] == "generated speech: no claim of accuracy may rest on these scores"
    assert data.split.leak_note in data.notes


def test_missing_actors_are_reported(corpus: Corpus) -> None:
    assert any("actors are not in this corpus" in note for note in task_data(corpus, "tfds", None, seed=0).notes)


@pytest.mark.parametrize(
    ("split", "emotions", "message"),
    [
        ("tdfs", None, r"--split 'tdfs' is not known. Known splits: .*tfds"),
        ("speaker_kfold:5", None, r"speaker_kfold"),
        ("tfds", ("joy", "sad"), r"--emotions 'joy' is not known: the corpus has anger, .*leave --emotions out"),
    ],
)
def test_wrong_names_are_refused_before_a_raw_folder_is_prepared(
    tone_corpus: Path, split: str, emotions: tuple[str, ...] | None, message: str
) -> None:
    for source in (str(tone_corpus), "sample"):
        with pytest.raises(UserError, match=message):
            check_names(source, split, emotions)


def test_names_are_checked_against_what_the_corpus_is(prepared_tone_corpus: Path, table: Table, tmp_path: Path) -> None:
    check_names(str(prepared_tone_corpus), "emo_superb:1", ("happy", "sad"))
    path = table([("ann", "calm"), ("bob", "cross")])
    check_names(str(path), "table", ("calm", "cross"))  # a table's emotions are its own
    with pytest.raises(UserError, match=r"--split 'tfds' is not known. Known splits: table, speaker_kfold:K:i, random"):
        check_names(str(path), "tfds", None)
    prepare_table(path, tmp_path / "out", jobs=1, progress=False)
    with pytest.raises(UserError, match=r"--emotions 'sad' is not known: the corpus has calm, cross"):
        check_names(str(tmp_path / "out"), None, ("calm", "sad"))
