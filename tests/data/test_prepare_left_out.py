"""Preparing CREMA-D: every clip that is left out has a reason, and every mistake of a user a message."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crema_d import defects
from crema_d.naming import parse_name
from crema_d.prepare import main, prepare
from ser_data.corpus import Corpus
from ser_data.errors import UserError

Write = Callable[..., Path]


def prepared(source: Path, out: Path | None = None) -> Corpus:
    return prepare(source, out or source.parent / "prepared", jobs=1, progress=False)


def reasons(corpus: Corpus) -> dict[str, str]:
    left_out = corpus.manifest[corpus.manifest["excluded"] != ""]
    return dict(zip(left_out["clip"], left_out["excluded"], strict=True))


def test_each_defect_is_a_row_with_its_reason(
    write_folder: Write, write_clip: Write, tmp_path: Path, lfs_pointer: str
) -> None:
    raw = write_folder(tmp_path / "raw")
    (raw / "1003_DFA_ANG_XX.wav").write_text(lfs_pointer)
    (raw / "1003_DFA_DIS_XX.flac").write_bytes(b"no audio at all" * 100)
    cut = write_clip(raw / "1003_DFA_FEA_XX.wav")
    cut.write_bytes(cut.read_bytes()[:-4_000])
    write_clip(raw / "1003_DFA_HAP_XX.wav", samples=np.zeros(16_000, dtype=np.float32))
    write_clip(raw / "1003_DFA_NEU_XX.wav", seconds=0.2)
    write_clip(raw / "noise" / "street.wav")
    write_clip(raw / "1040_ITH_SAD_X.wav")
    os.symlink(raw / "nowhere.wav", raw / "1003_DFA_SAD_XX.wav")
    corpus = prepared(raw)
    found = reasons(corpus)
    for clip, reason in {
        "1003_DFA_ANG_XX": "Git LFS pointer: the audio itself was not fetched, `git lfs pull` does that",
        "1003_DFA_DIS_XX": "unreadable: ",
        "1003_DFA_FEA_XX": "truncated: 16000 bytes of samples promised by its header, 12000 there",
        "1003_DFA_HAP_XX": "silent: amplitude 0.00000",
        "1003_DFA_NEU_XX": "too short: 0.200 s, at least 0.3 s are needed",
        "1003_DFA_SAD_XX": "missing file: ",
        "1040_ITH_SAD_X": "misnamed: the release's name for 1040_ITH_SAD_XX",
        "noise/street": "unknown name: CREMA-D's names read like 1001_DFA_ANG_XX",
    }.items():
        assert found.pop(clip).startswith(reason)
    assert found == {}
    assert len(corpus.clips) == len(corpus.waveforms) == 6
    left_out = corpus.manifest[corpus.manifest["excluded"] != ""]
    assert (left_out[["offset", "num_samples"]] == 0).all(axis=None)
    counts = json.loads((corpus.folder / "corpus.json").read_text())["counts"]
    assert (counts["found"], counts["kept"], counts["left_out"]["silent"]) == (14, 6, 1)


def test_a_misnamed_clip_is_labelled_although_it_is_left_out(
    write_folder: Write, write_clip: Write, tmp_path: Path
) -> None:
    write_clip(write_folder(tmp_path / "raw") / "1040_ITH_SAD_X.wav")
    rows = prepared(tmp_path / "raw").manifest.set_index("clip")
    assert rows.loc["1040_ITH_SAD_X", ["actor", "emotion", "level"]].tolist() == ["1040", "sad", "XX"]


def test_of_a_known_pair_only_the_wrong_label_is_left_out(write_clip: Write, tmp_path: Path) -> None:
    for number, pair in enumerate(defects.WRONG_LABEL.items()):
        for name in pair:
            write_clip(tmp_path / "raw" / f"{name}.wav", seed=number)
    found = reasons(prepared(tmp_path / "raw"))
    assert set(found) == {"1006_TIE_NEU_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX"}
    assert found["1006_TIE_NEU_XX"] == (
        "contradictory label: same audio as 1006_TIE_HAP_XX; this is the label known to be wrong"
    )


def test_a_known_wrong_label_goes_without_its_twin_and_stays_if_they_differ(write_clip: Write, tmp_path: Path) -> None:
    write_clip(tmp_path / "raw" / "1001_DFA_ANG_XX.wav")
    write_clip(tmp_path / "raw" / "1006_TIE_NEU_XX.wav", seed=1)  # alone
    write_clip(tmp_path / "raw" / "1017_IWW_FEA_XX.wav", seed=2)
    write_clip(tmp_path / "raw" / "1017_IWW_ANG_XX.wav", seed=3)
    found = reasons(prepared(tmp_path / "raw"))
    assert list(found) == ["1006_TIE_NEU_XX"]
    assert "known to be the audio of 1006_TIE_HAP_XX, which is not here" in found["1006_TIE_NEU_XX"]


def test_of_an_unknown_pair_with_different_labels_both_are_left_out(
    write_folder: Write, write_clip: Write, tmp_path: Path
) -> None:
    raw = write_folder(tmp_path / "raw")
    write_clip(raw / "1050_DFA_ANG_XX.wav", seed=99)
    write_clip(raw / "1050_DFA_SAD_XX.flac", seed=99)  # another container, the same sound
    found = reasons(prepared(raw))
    assert found == {
        clip: f"contradictory label: same audio as {twin}; which label is right is not known"
        for clip, twin in (
            ("1050_DFA_ANG_XX", "1050_DFA_SAD_XX (sad)"),
            ("1050_DFA_SAD_XX", "1050_DFA_ANG_XX (anger)"),
        )
    }


def test_copies_with_one_label_are_kept_for_the_split_to_judge(
    write_folder: Write, write_clip: Write, tmp_path: Path
) -> None:
    raw = write_folder(tmp_path / "raw")
    write_clip(raw / "1050_DFA_ANG_XX.wav", seed=99)
    write_clip(raw / "1051_DFA_ANG_XX.wav", seed=99)
    corpus = prepared(raw)
    assert reasons(corpus) == {}
    assert corpus.clips["sha256"].duplicated().sum() == 1


@pytest.mark.parametrize(
    "stem", ["1001_DFA_ANG", "1001_XYZ_ANG_XX", "1001_DFA_JOY_XX", "01_DFA_ANG_XX", "1001_DFA_ANG_XX_2"]
)
def test_names_that_only_resemble_a_clips_are_not_read_as_one(stem: str) -> None:
    assert parse_name(stem) is None


def test_two_strange_files_of_one_name_are_two_rows(write_folder: Write, write_clip: Write, tmp_path: Path) -> None:
    raw = write_folder(tmp_path / "raw")
    write_clip(raw / "a" / "test.wav")
    write_clip(raw / "b" / "test.wav")
    assert set(reasons(prepared(raw))) == {"a/test", "b/test"}


def test_the_command_prints_what_it_left_out_and_why(
    write_folder: Write, write_clip: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_folder(tmp_path / "raw")
    write_clip(raw / "1003_DFA_HAP_XX.wav", samples=np.zeros(16_000, dtype=np.float32))
    write_clip(raw / "[red]odd.wav")
    assert main([str(raw), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for text in (
        "silent",
        "1003_DFA_HAP_XX",
        "amplitude 0.00000",
        "unknown name",
        "[red]odd",
        "6 of 8 clips of 2 speakers",
    ):
        assert text in printed


def test_with_nothing_left_the_command_prints_the_table_and_fails(
    write_clip: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "raw" / "noise.wav")
    with pytest.raises(UserError, match=r"no clip is left of the 1 found in .*: 1 unknown name .*1001_DFA_ANG_XX\.wav"):
        main([str(tmp_path / "raw"), "--out", str(tmp_path / "out")])
    assert "unknown name" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_the_command_exits_with_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "crema_d.prepare", "raw", "--out", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: no audio in raw: it is empty.")
    assert "Traceback" not in run.stderr


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no audio in .*: it is empty\. Accepted: \.wav, \.flac, .*crema_d\.download"):
        prepared(tmp_path)


def test_a_folder_without_audio_names_the_archive_in_it(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "crema.zip").touch()
    with pytest.raises(UserError, match=r"it holds 1 other files.*Give the archive in it: .*crema\.zip"):
        prepared(tmp_path / "raw")


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder or zip archive .*nowhere\. Give a folder or zip of WAV"):
        prepared(tmp_path / "nowhere")


def test_a_folder_of_lfs_pointers_says_how_to_fetch_the_audio(
    write_folder: Write, tmp_path: Path, lfs_pointer: str
) -> None:
    for path in write_folder(tmp_path / "raw").iterdir():
        path.write_text(lfs_pointer)
    with pytest.raises(UserError, match=r"all 6 audio files in .* are Git LFS pointers .*`git lfs pull`"):
        prepared(tmp_path / "raw")


def test_a_folder_without_read_permission_is_named(
    write_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "raw")

    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("ser_data.sources.os.scandir", refuse)
    with pytest.raises(UserError, match=r"the folder .*raw/? cannot be read: no permission.*chmod"):
        prepared(source)


def test_files_without_read_permission_are_named(
    write_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "raw")
    real_open = Path.open

    def refuse(self: Path, *arguments: object, **options: object) -> object:
        if self.suffix == ".wav":
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"none of the 6 audio files in .* may be read: no permission.*chmod"):
        prepared(source)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw.zip").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(UserError, match=r"raw\.zip is not a zip archive that can be read"):
        prepared(tmp_path / "raw.zip")


def test_a_table_is_sent_to_the_command_for_tables(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("file,speaker,emotion\n")
    with pytest.raises(UserError, match=r"is a table.*python -m ser_data\.table"):
        prepared(tmp_path / "clips.csv", tmp_path / "out")


def test_a_prepared_folder_is_not_prepared_again(write_folder: Write, tmp_path: Path) -> None:
    corpus = prepared(write_folder(tmp_path / "raw"))
    with pytest.raises(UserError, match="is a prepared corpus already"):
        prepared(corpus.folder, tmp_path / "again")


def test_an_output_folder_that_cannot_be_is_refused(write_folder: Write, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "raw")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is a file\. Give a folder, new or existing, with --out"):
        prepared(source, tmp_path / "file")
    with pytest.raises(UserError, match=r"is the source itself\. Give a folder of its own"):
        prepared(source, source)


def test_zero_jobs_are_refused(write_folder: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--jobs 0 is not possible. Give 1 or more"):
        prepare(write_folder(tmp_path / "raw"), tmp_path / "out", jobs=0, progress=False)


@pytest.mark.real_data
@pytest.mark.skipif("CREMA_D_ROOT" not in os.environ, reason="needs real CREMA-D: set CREMA_D_ROOT to its folder")
def test_the_known_clips_of_the_release_are_left_out(tmp_path: Path) -> None:
    corpus = prepare(Path(os.environ["CREMA_D_ROOT"]), tmp_path / "out", progress=False)
    actors = set(corpus.manifest["actor"])
    known = {
        "1006_TIE_NEU_XX": "contradictory label",
        "1013_WSI_DIS_XX": "contradictory label",
        "1017_IWW_FEA_XX": "contradictory label",
        "1040_ITH_SAD_X": "misnamed",
        "1076_MTI_SAD_XX": "silent",
    }
    expected = {clip: kind for clip, kind in known.items() if clip[:4] in actors}
    assert {clip: reason.partition(":")[0] for clip, reason in reasons(corpus).items()} == expected
    assert corpus.clips["duration"].between(1.2, 5.1).all()
