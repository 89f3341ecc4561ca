"""What a user may get wrong, through the command itself: one line that helps, exit code 2, no traceback, and no Ray."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from search.arguments import Arguments
from search.record import Record
from search.run import main
from search.run_folder import create
from search.space import load_space
from ser_data.command import exit_code
from tests.search.knob_search import ROOT

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


@dataclass(frozen=True)
class Case:
    """A command with bad input.

    Attributes:
        options: of ``search/run.py``; names in braces are folders, see :func:`places`
        message: every piece that the one line on stderr has to hold, in order
        environment: on top of the test's own
    """

    options: str
    message: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


CASES = {
    "unknown space": Case(
        "--space mfcc_fsat --data {tones}",
        (
            "--space 'mfcc_fsat' is not known. Known spaces: ",
            "mfcc_fast, mfcc_full, notebooks_mel, notebooks_mfcc, quick",
            "Add one as search/spaces/",
        ),
    ),
    "unknown split": Case(
        "--data {tones} --split tdfs",
        ("--split 'tdfs' is not known. Known splits: ", "tfds", "speaker_kfold:K:i, random", "Add one as "),
    ),
    "unknown emotion": Case(
        "--data {tones} --emotions happy,joy",
        ("--emotions 'joy' is not known: the corpus has anger, disgust", "leave --emotions out"),
    ),
    "one emotion": Case("--data {tones} --emotions sad", ("--emotions 'sad' is not accepted: it takes 'all' or two",)),
    "split with an empty part": Case("--data {one_actor} --split tfds", ("--split", "tfds", "validation")),
    "no trials": Case("--trials 0 --data {tones}", ("--trials: '0' is not accepted: it takes a whole number from 1",)),
    "grace too long": Case(
        "--data {tones} --grace 99", ("--grace 99 is out of range: a trial of this space has 12 epochs", "1 to 12")
    ),
    "another search": Case(
        "--data {tones} --out {other} --seed 7",
        ("--out", "holds another search (seed 3 there, 7 now)", "Choose another --out, or go on with", "--resume"),
    ),
    "a folder in use": Case(
        "--data {tones} --out {tones}", ("--out", "is not empty and holds no search", "takes a new")
    ),
    "data that is not there": Case(
        "--data {empty}/gone", ("--data", "gone: there is no such folder or file", "It takes", "'sample' for generated")
    ),
    "no data at all": Case("", ("no corpus was found", "Three ways to get one", "--data sample"), {"CREMA_D_ROOT": ""}),
    "an empty folder": Case("--data {empty}", ("no audio in", "it is empty", "Accepted: .wav", "crema_d.download")),
    "pointers": Case(
        "--data {pointers}", ("all 3 audio files in", "are Git LFS pointers", "`git lfs pull`", "crema_d.download")
    ),
    "pinned out of range": Case(
        "--data {tones} --fix dropout=0.9",
        ("--fix dropout=0.9 is out of range: dropout takes a number from 0.1 to 0.5",),
    ),
    "pinned by a wrong name": Case(
        "--data {tones} --fix dropuot=0.2", ("the space quick has no parameter 'dropuot'. It searches: ", "dropout")
    ),
    "an encoder for a space without one": Case(
        "--data {tones} --encoder tiny",
        ("--encoder does nothing in the space quick", "Spaces with one: ", "wav2vec2_fast", "Choose one of them"),
    ),
    "an encoder that is not there": Case(
        "--data {tones} --space wav2vec2_fast --encoder {empty}/gone", ("--encoder", "gone", "no such folder")
    ),
    "one of several encoders is not there": Case(
        "--data {tones} --space wav2vec2_fast --encoder tiny,{empty}/gone",
        ("--encoder", "gone: there is no such folder"),
    ),
    "encoders of two kinds": Case(
        "--data {tones} --space mel_resnet50_frozen --encoder tiny,{speech}",
        (
            "--encoder",
            "speech is of type 'wav2vec2', which is a speech encoder",
            "this space takes an image backbone",
            "Use --space wav2vec2_fast",
        ),
    ),
    "no encoder between two commas": Case(
        "--data {tones} --space wav2vec2_fast --encoder tiny,,{speech}",
        ("--encoder 'tiny,,", "is not accepted: it takes one network, or several with one comma between", "Example: "),
    ),
    "one encoder twice": Case(
        "--data {tones} --space wav2vec2_fast --encoder tiny,tiny",
        ("--encoder tiny,tiny names tiny twice. Accepted are different networks. Name it once.",),
    ),
    "an encoder that is none of several": Case(
        "--data {tones} --space wav2vec2_fast --encoder tiny,{speech} --pretrained none --fix encoder=tinny",
        ("--fix encoder=tinny is out of range: encoder takes one of tiny (random weights), speech (random weights)",),
    ),
    "a depth that the encoder lacks": Case(
        "--data {tones} --space wav2vec2_full --encoder tiny --fix unfreeze_depth=9",
        ("--fix unfreeze_depth=9 is out of range: unfreeze_depth takes a whole number from 0 to 2",),
    ),
    "weights that are neither": Case(
        "--data {tones} --space wav2vec2_fast --pretrained some",
        ("--pretrained 'some' is not accepted: it takes 'none'",),
    ),
    "nothing to resume": Case("--resume {empty}", ("holds no search: it has no config.json. Name the folder that",)),
    "resume with another seed": Case("--resume {other} --seed 4", ("--seed cannot be given with --resume",)),
    "no key for W&B": Case(
        "--data {tones} --split speaker_kfold:4:1 --wandb online --out {new}",
        ("--wandb online: no key was found", "`wandb login`", "--wandb offline"),
    ),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def places(tone_corpus: Path, prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that the cases name."""
    base = tmp_path_factory.mktemp("places")
    found = {name: base / name for name in ("empty", "pointers", "one_actor", "other", "new", "speech")}
    for name in ("empty", "pointers", "one_actor", "speech"):
        found[name].mkdir()
    for file in ("config.json", "preprocessor_config.json"):
        (found["speech"] / file).write_text('{"model_type": "wav2vec2", "num_hidden_layers": 3}')
    for clip in ("1001_DFA_ANG_XX", "1001_DFA_SAD_XX", "1002_DFA_SAD_XX"):
        (found["pointers"] / f"{clip}.wav").write_text(LFS_POINTER)
    for clip in tone_corpus.glob("1001_*.wav"):
        (found["one_actor"] / clip.name).symlink_to(clip)
    create(found["other"], Arguments(seed=3), load_space("quick"), str(prepared_tone_corpus), "")
    with Record(found["other"] / "events.jsonl"):
        pass
    return {**found, "tones": prepared_tone_corpus, "base": base}


@pytest.fixture(scope="module")
def ended(places: dict[str, Path]) -> dict[str, Ended]:
    """Every case's command, run side by side."""
    # a search that got as far as Ray would fail to join this one, with another message
    common = {"RAY_ADDRESS": "127.0.0.1:9", "HOME": str(places["base"]), "NETRC": str(places["base"] / "no-netrc")}

    def run(case: Case) -> Ended:
        command = [sys.executable, ROOT / "search" / "run.py", "--cache-dir", places["base"] / "cache"]
        if "--resume" not in case.options and "--out" not in case.options:
            command += ["--out", places["base"] / f"run-{abs(hash(case.options))}"]
        process = subprocess.run(
            [*command, *case.options.format(**places).split()],
            cwd=places["base"], env={**os.environ, **common, **case.environment}, capture_output=True, text=True,
        )  # fmt: skip
        return Ended(process.returncode, process.stdout, process.stderr)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(run, CASES.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_with_one_helpful_line_and_exit_code_2(ended: dict[str, Ended], name: str) -> None:
    found = ended[name]
    assert found.code == 2, found
    lines = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, found.err
    position = 0
    for piece in CASES[name].message:
        assert piece in lines[0][position:], lines[0]
        position = lines[0].index(piece, position)
    assert "Traceback" not in found.err + found.out


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told_before_ray_starts(ended: dict[str, Ended], name: str) -> None:
    assert "Ray" not in ended[name].out + ended[name].err


def test_bad_input_leaves_the_search_that_was_there_as_it_was(ended: dict[str, Ended], places: dict[str, Path]) -> None:
    assert ended["another search"].code == 2
    assert sorted(path.name for path in places["other"].iterdir() if path.suffix != ".lock") == [
        "config.json", "events.jsonl",
    ]  # fmt: skip
    assert '"seed": 3' in (places["other"] / "config.json").read_text()


def test_wrong_arguments_leave_no_folder_behind(ended: dict[str, Ended], places: dict[str, Path]) -> None:
    for name in ("unknown space", "unknown split", "unknown emotion", "grace too long", "pinned out of range"):
        assert ended[name].code == 2
        assert not (places["base"] / f"run-{abs(hash(CASES[name].options))}").exists()


def _options(data: Path, folder: Path) -> list[str]:
    return ["--data", str(data), "--out", str(folder / "run"), "--cache-dir", str(folder / "cache")]


def test_a_folder_that_may_not_be_read_is_named(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if str(folder).startswith(str(tone_corpus)):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert exit_code(main, _options(tone_corpus, tmp_path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert (
        lines[0].startswith(f"error: the folder {tone_corpus}") and "no permission" in lines[0] and "chmod" in lines[0]
    )


def test_a_folder_below_one_that_may_not_be_looked_into_is_named(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stat = os.stat

    def refuse(path: Any, **options: Any) -> os.stat_result:
        if os.fspath(path) == str(tone_corpus):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert exit_code(main, _options(tone_corpus, tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no such folder or file, or it may not be read. It takes a prepared corpus" in line


def test_outside_the_environment_the_command_says_how_to_set_it_up(tmp_path: Path) -> None:
    """A Python without the project's packages: -I and -S leave only the standard library on the path."""
    run = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "search" / "run.py", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith(
        "error: the package ray is missing: this Python is not the project's. Run `make .venv`"
    )
