"""``python -m crema_d.inspect``: its tables, its page, and what it says to bad input."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from crema_d.inspect import example_indices, inspect, main
from crema_d.prepare import prepare
from ser_data.command import exit_code
from ser_data.corpus import GENERATED_MARKER, open_corpus
from ser_data.errors import UserError
from ser_data.overview import Overview, look_at
from ser_data.table import prepare_table

ACTORS = {"1001": (51, "Male"), "1002": (21, "Female"), "1015": (36, "Female")}


@pytest.fixture(scope="module")
def folder(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three actors with the release's tables, one clip of them unreadable."""
    source = tmp_path_factory.mktemp("inspected")
    for path in tone_corpus.glob("*.wav"):
        if path.name[:4] in ACTORS:
            shutil.copy(path, source)
    (source / "1002_DFA_SAD_XX.wav").write_bytes(b"no audio")
    rows = [f'{actor},{age},"{sex}","Caucasian","Not Hispanic"\n' for actor, (age, sex) in ACTORS.items()]
    (source / "VideoDemographics.csv").write_text('"ActorID","Age","Sex","Race","Ethnicity"\n' + "".join(rows))
    votes = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
    votes += '"1","1001_DFA_ANG_XX","A","47","A","41","A","41"\n"2","1001_DFA_SAD_XX","N:S","47:40","S","41","N","41"\n'
    (source / "summaryTable.csv").write_text(votes)
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    prepare(source, out, jobs=1, progress=False)
    return out


@pytest.fixture(scope="module")
def overview(folder: Path) -> Overview:
    return look_at(open_corpus(folder))


def test_counts_add_up_over_every_column(overview: Overview) -> None:
    for column in ("emotion", "actor", "sex", "age_band", "level", "sentence"):
        table = overview.counts(column)
        assert table["clips"].sum() == 35
        assert table["minutes"].sum() == pytest.approx(overview.clips["duration"].sum() / 60)
    assert overview.counts("sex")["speakers"].tolist() == [2, 1]
    assert overview.counts("actor")["sad"].tolist() == [2, 1, 2]


def test_counts_of_emotions_sum_to_the_clips(overview: Overview) -> None:
    table = overview.counts("level")
    assert (table[list(overview.corpus.emotions)].sum(axis=1) == table["clips"]).all()


def test_speakers_carry_age_and_sex(overview: Overview) -> None:
    table = overview.speakers().set_index("speaker")
    assert (table.loc["1001", "sex"], table.loc["1001", "age"]) == ("male", 51)


def test_caps_cut_what_is_longer(overview: Overview) -> None:
    caps = overview.caps().set_index("cap s")
    assert caps.loc[2.0, "clips cut"] == 0  # tones last 0.5 to 0.8 s
    assert caps.loc[2.0, "speech lost"] == 0


def test_caps_count_the_speech_beyond_them(overview: Overview) -> None:
    clips = pd.DataFrame({"duration": [1.0, 4.0], "emotion": "sad"})
    longer = Overview(overview.corpus, overview.levels, overview.spectra)
    longer.__dict__["clips"] = clips
    assert longer.caps().set_index("cap s").loc[3.0].tolist() == [0.5, 0.2]


def test_examples_are_one_speaker_and_sentence_with_every_emotion(overview: Overview) -> None:
    chosen = overview.corpus.clips.iloc[example_indices(overview.corpus.clips, overview.corpus.emotions)]
    assert chosen["emotion"].tolist() == list(overview.corpus.emotions)
    assert chosen["actor"].nunique() == chosen["sentence"].nunique() == 1


def test_examples_come_from_others_where_a_speaker_lacks_an_emotion() -> None:
    clips = pd.DataFrame(
        [("speaker 1", "", "sad"), ("speaker 1", "", "happy"), ("speaker 2", "", "fear")],
        columns=["actor", "sentence", "emotion"],
    )
    assert example_indices(clips, ("fear", "happy", "sad", "anger")) == [2, 1, 0]


def test_terminal_shows_every_question(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(folder)
    text = capsys.readouterr().out
    for heading in (
        "Emotions",
        "Sex",
        "Age",
        "Level",
        "Sentence",
        "duration",
        "dBFS",
        "Left out",
        "Crowd",
        "unreadable",
    ):
        assert heading in text
    assert "35 of 36 clips of 3 speakers" in text
    assert "75.0 %" in re.sub(r"\s+", " ", text)  # of the two votes one is a tie: (1 + 1/2) / 2, over two emotions


def test_page_is_whole_and_needs_no_network(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "look.html"
    inspect(folder, page=page)
    text = page.read_text()
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"""<(?:script|link|img|iframe|audio)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""", text)
    assert text.count("<audio ") == 6
    for heading in (
        "Emotions",
        "Spread",
        "Duration",
        "Loudness and spectrum",
        "Left out",
        "Crowd agreement",
        "Examples",
    ):
        assert f">{heading}</h2>" in text
    assert "1002_DFA_SAD_XX" in text
    assert [path.name for path in page.parent.iterdir()] == ["look.html"]  # no temporary file is left


def test_generated_speech_is_called_generated(
    tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in tone_corpus.glob("1001_DFA_*.wav"):
        shutil.copy(path, source)
    (source / GENERATED_MARKER).write_text("")
    prepare(source, tmp_path / "corpus", jobs=1, progress=False)
    inspect(tmp_path / "corpus", page=tmp_path / "page.html")
    assert "This speech is generated" in capsys.readouterr().out
    assert "This speech is generated" in (tmp_path / "page.html").read_text()


def test_a_corpus_of_a_table_without_sex_sentences_and_votes_is_shown(
    tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [("1001_DFA_ANG_XX", "a", "<angry>"), ("1002_DFA_SAD_XX", "b", "low")]
    rows = [f"{tone_corpus / name}.wav,{speaker},{emotion}" for name, speaker, emotion in names]
    (tmp_path / "clips.csv").write_text("file,speaker,emotion\n" + "\n".join(rows))
    prepare_table(tmp_path / "clips.csv", tmp_path / "corpus", jobs=1, progress=False)
    inspect(tmp_path / "corpus", page=tmp_path / "page.html")
    text = capsys.readouterr().out
    assert "<angry>" in text
    assert "Sentence" not in text
    assert "Crowd" not in text
    assert "&lt;angry&gt;" in (tmp_path / "page.html").read_text()


def test_a_raw_folder_is_told_to_be_prepared(tone_corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(main, [str(tone_corpus)]) == 2
    message = capsys.readouterr().err
    assert "is not a prepared corpus" in message
    assert "python -m crema_d.prepare" in message


def test_a_page_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--html .*page\.html cannot be written: .*Give a file in a folder"):
        inspect(folder, page=tmp_path / "file" / "page.html")


@pytest.mark.real_data
@pytest.mark.slow
def test_real_speech_tells_its_bandwidth_and_its_loud_anger(crema_d_root: Path, tmp_path: Path) -> None:
    found = look_at(prepare(crema_d_root, tmp_path / "corpus", progress=False))
    levels = found.by_emotion().set_index("emotion")["dBFS, median"]
    assert levels["anger"] - levels["sad"] > 10
    assert 5000 < found.bandwidth_hz <= 8000
