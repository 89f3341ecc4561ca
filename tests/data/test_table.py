"""A corpus by one table: what is read from it, and what is said of tables that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ser_data import prepare_corpus
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_data.table import main, prepare_table, prepare_table_once

Write = Callable[..., Path]


@pytest.fixture
def write_table(write_clip: Write, tmp_path: Path) -> Write:
    """Function that writes a table and the clips that it lists."""

    def write(text: str, *, clips: bool = True, name: str = "clips.csv") -> Path:
        table = tmp_path / "corpus" / name
        table.parent.mkdir(exist_ok=True)
        table.write_text(text)
        for number, line in enumerate(text.splitlines()[1:]) if clips else ():
            path = table.parent / line.split(",")[0].strip()
            if path.suffix and not path.exists():
                write_clip(path, seed=number)
        return table

    return write


def prepared(table: Path) -> Corpus:
    return prepare_table(table, table.parent.parent / "prepared", jobs=1, progress=False)


def reasons(corpus: Corpus) -> dict[str, str]:
    left_out = corpus.manifest[corpus.manifest["excluded"] != ""]
    return dict(zip(left_out["clip"], left_out["excluded"], strict=True))


ROWS = "file,speaker,emotion\nwav/a.wav,s1,joy\nwav/b.flac,s1,boredom\nwav/c.opus,s2,joy\n"


def test_a_table_is_a_corpus_with_emotions_of_its_own(write_table: Write) -> None:
    corpus = prepared(write_table(ROWS))
    assert (corpus.name, corpus.kind, corpus.generated) == ("clips", "table", False)
    assert corpus.emotions == ("boredom", "joy")
    assert corpus.default_split == "speaker_kfold:5:1"
    assert corpus.clips[["clip", "file", "actor"]].to_numpy().tolist() == [
        ["a", "wav/a.wav", "s1"],
        ["b", "wav/b.flac", "s1"],
        ["c", "wav/c.opus", "s2"],
    ]
    assert corpus.labels().tolist() == [1, 0, 1]
    assert len(corpus.waveforms[0]) == 8_000


def test_a_split_column_becomes_the_default_split(write_table: Write) -> None:
    corpus = prepared(
        write_table(
            "file,speaker,emotion,sex,split,comment\n"
            "a.wav,s1, joy ,Female,train,x\nb.wav,s2,fear,male,dev,y\nc.wav,s3,joy,,Test,z\nd.wav,s4,fear,male,,w\n"
        )
    )
    assert corpus.default_split == "table"
    assert corpus.clips["split"].tolist() == ["train", "validation", "test", ""]
    assert corpus.clips["sex"].tolist() == ["female", "male", "", "male"]


def test_absolute_paths_and_paths_above_the_table_are_read(write_clip: Write, tmp_path: Path) -> None:
    outside = write_clip(tmp_path / "audio" / "one.wav")
    write_clip(tmp_path / "audio" / "deep" / "two.wav")
    (tmp_path / "lists").mkdir()
    table = tmp_path / "lists" / "clips.csv"
    table.write_text(f"file,speaker,emotion\n{outside},s1,joy\n../audio/deep/two.wav,s2,fear\n")
    corpus = prepared(table)
    assert corpus.clips["clip"].tolist() == ["one", "deep/two"]  # nothing of this machine's folders in a name


def test_the_hash_is_that_of_the_content_wherever_it_lies(write_table: Write, tmp_path: Path) -> None:
    table = write_table(ROWS)
    relative = prepared(table)
    absolute = table.with_name("absolute.csv")
    absolute.write_text(ROWS.replace("wav/", f"{table.parent}/wav/"))
    assert prepare_table(absolute, tmp_path / "other", progress=False).manifest_hash == relative.manifest_hash


def test_names_of_clips_are_unique(write_table: Write) -> None:
    corpus = prepared(
        write_table(
            "file,speaker,emotion,split\nx/a.wav,s1,joy,train\nx/a.flac,s2,fear,train\ny/a.wav,s3,joy,dev\n"
            "y/a.wav,s3,joy,test\n"
        )
    )
    assert corpus.manifest["clip"].tolist() == ["x/a.wav", "x/a.flac", "y/a", "y/a#2"]


def test_each_row_that_cannot_be_used_has_its_reason(write_table: Write, write_clip: Write) -> None:
    table = write_table(
        "file,speaker,emotion\na.wav,s1,joy\nb.wav,s2,fear\nmissing.wav,s2,fear\nc.wav,,fear\n,s3,joy\na.wav,s1,joy\n"
        "short.wav,s3,joy\n"
    )
    (table.parent / "missing.wav").unlink()
    write_clip(table.parent / "short.wav", seconds=0.1)
    corpus = prepared(table)
    found = reasons(corpus)
    assert found.pop("missing").startswith("missing file: ")
    assert found.pop("short").startswith("too short: 0.100 s")
    assert found.pop("row 5 without a file") == "incomplete row: no file given"
    assert found == {
        "c": "incomplete row: no speaker given",
        "a#2": "listed twice: the same as row 1 of the table",
    }
    assert corpus.clips["clip"].tolist() == ["a", "b"]


def test_one_sound_under_two_emotions_is_left_out(write_table: Write, write_clip: Write) -> None:
    table = write_table(ROWS + "a.wav,s3,joy\nb.wav,s4,boredom\n")
    for name in ("a.wav", "b.wav"):
        write_clip(table.parent / name, seed=70)
    assert set(reasons(prepared(table))) == {"a", "b"}


def test_one_clip_in_two_parts_is_kept_for_the_split_to_judge(write_table: Write) -> None:
    corpus = prepared(
        write_table("file,speaker,emotion,split\na.wav,s1,joy,train\na.wav,s1,joy,test\nb.wav,s2,fear,train\n")
    )
    assert reasons(corpus) == {}
    assert corpus.clips["sha256"].duplicated().sum() == 1


def test_a_length_that_is_not_the_tables_is_noted(write_table: Write) -> None:
    corpus = prepared(
        write_table("file,speaker,emotion,duration\na.wav,s1,joy,0.5\nb.wav,s2,fear,2.5\nc.wav,s2,joy,\n")
    )
    notes = json.loads((corpus.folder / "corpus.json").read_text())["notes"]
    assert notes == [
        "1 clips are not as long as the table says, e.g. b: 2.5 s in the table, 0.5 s decoded; "
        "the decoded length counts"
    ]
    assert corpus.clips["duration"].tolist() == [0.5, 0.5, 0.5]


def test_a_table_is_prepared_once_until_it_or_its_audio_changes(
    write_table: Write, write_clip: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(ROWS)
    decoded: list[object] = []
    pack = prepare_corpus.pack_clip
    monkeypatch.setattr(prepare_corpus, "pack_clip", lambda *given: decoded.append(given) or pack(*given))
    first = prepare_table_once(table, tmp_path / "cache", progress=False)
    assert first.name.startswith("clips-")
    assert prepare_table_once(table, tmp_path / "cache", progress=False) == first
    assert len(decoded) == 3
    write_clip(table.parent / "wav" / "a.wav", seed=50, seconds=0.6)
    second = prepare_table_once(table, tmp_path / "cache", progress=False)
    assert second != first
    table.write_text(ROWS.replace("boredom", "fear"))
    assert open_corpus(prepare_table_once(table, tmp_path / "cache", progress=False)).emotions == ("fear", "joy")
    assert len(decoded) == 9


def test_the_command_prints_what_was_left_out(
    write_table: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = write_table(ROWS)
    (table.parent / "wav" / "c.opus").unlink()
    assert main([str(table), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "missing file" in printed
    assert "2 of 3 clips of 1 speakers" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the table .*clips\.csv is empty\. Needed: file, speaker, emotion"),
        ("file,speaker,emotion\n", r"has no rows, only the heading"),
        ("file,emotion\na.wav,joy\n", r"has no column speaker; its columns: file, emotion\. Needed: file, speaker"),
        (
            "file;speaker;emotion\na.wav;s;joy\n",
            r"has no column .*its columns: file;speaker;emotion.*separated by commas",
        ),
        (ROWS.replace("boredom", "joy"), r"has one emotion only \(joy\)\. At least two"),
        ("file,speaker,emotion\na.wav,s1,\n", r"has no emotion in any row"),
        (ROWS.replace("boredom", "Joy"), r"writes one emotion in several ways: Joy, joy"),
        (
            "file,speaker,emotion,split\na.wav,s1,joy,eval\nb.wav,s,sad,dev\n",
            r"split 'eval' in row 1\. Accepted: train, dev",
        ),
        ("file,speaker,emotion,start\na.wav,s1,joy,0\na.wav,s1,sad,1.5\n", r"lists parts of files \(column start\)"),
        ('file,speaker,emotion\na.wav,"s1\n', r"is not a CSV table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(write_table: Write, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared(write_table(text, clips=False))


def test_a_table_in_another_encoding_is_named(write_table: Write) -> None:
    table = write_table(ROWS)
    table.write_bytes(ROWS.replace("joy", "Ärger").encode("latin-1"))
    with pytest.raises(UserError, match=r"is not a CSV table in UTF-8"):
        prepared(table)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no table .*nowhere\.csv\. Give a CSV file\. Needed: file"):
        prepared(tmp_path / "nowhere.csv")


def test_a_table_of_missing_files_says_what_its_paths_are_relative_to(write_table: Write) -> None:
    table = write_table(ROWS, clips=False)
    with pytest.raises(UserError, match=r"no clip is left of the 3 found .*: 3 missing file .*relative to the table's"):
        prepared(table)


def test_one_emotion_left_is_an_error(write_table: Write) -> None:
    table = write_table(ROWS)
    (table.parent / "wav" / "b.flac").unlink()
    with pytest.raises(UserError, match=r"the clips that can be used have one emotion only \(joy\)"):
        prepared(table)
    assert not (table.parent.parent / "prepared").exists()
