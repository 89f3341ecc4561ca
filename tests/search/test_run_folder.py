"""A search's folder: begun, gone on with, or refused with the reason."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import run_folder
from search.arguments import Arguments
from search.corpora import task_data
from search.record import Record
from search.space import Space, load_space
from ser_data.corpus import open_corpus
from ser_data.errors import UserError

GIVEN = Arguments(space="quick", split="tfds", seed=3, fix={"network": "cnn"}, out=Path("x"), emotions=("happy", "sad"))


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space("quick")


@pytest.fixture
def begun(tmp_path: Path, space: Space) -> Path:
    """A folder whose search got as far as its record."""
    folder = tmp_path / "run"
    run_folder.create(folder, GIVEN, space, "/data/clips", "python search/run.py --space quick")
    with Record(folder / "events.jsonl"):
        pass
    return folder


def test_config_json_holds_what_a_result_needs_to_be_reproduced(begun: Path, space: Space) -> None:
    config = json.loads((begun / "config.json").read_text())
    assert config["command"] == "python search/run.py --space quick"
    assert (config["arguments"]["seed"], config["source"]) == (3, "/data/clips")
    assert config["plan"] == {
        "family": "mfcc", "num_trials": space.trials, "max_epochs": space.max_epochs, "grace": space.grace,
    }  # fmt: skip
    assert {"python", "ray", "torch", "optuna"} <= set(config["versions"])
    assert len(config["commit"].rstrip("+")) == 12 or config["commit"] == "unknown"
    assert set(config["machine"]) == {"system", "processor", "cores"}


def test_options_override_the_plan_of_the_space(tmp_path: Path, space: Space) -> None:
    config = run_folder.create(tmp_path / "run", Arguments(trials=3, grace=5), space, "sample", "")
    assert (config["plan"]["num_trials"], config["plan"]["grace"]) == (3, 5)


def test_arguments_come_back_as_they_were_given(begun: Path) -> None:
    assert run_folder.stored_arguments(run_folder.load(begun)) == GIVEN


def test_force_holds_for_the_command_it_was_given_with_and_for_none_after(tmp_path: Path, space: Space) -> None:
    config = run_folder.create(tmp_path / "run", Arguments(finalists=2, force=True), space, "sample", "")
    stored = run_folder.stored_arguments(config)
    assert (stored.finalists, stored.force) == (2, False)


def test_two_searches_have_two_ids(tmp_path: Path, space: Space) -> None:
    ids = {run_folder.create(tmp_path / name, GIVEN, space, "sample", "")["search_id"] for name in "ab"}
    assert len(ids) == 2


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path, space: Space) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"--out .* is not empty and holds no search.*takes a new or empty folder"):
        run_folder.create(tmp_path, GIVEN, space, "sample", "")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_search_whose_record_is_gone_is_not_written_over(begun: Path, space: Space) -> None:
    (begun / "events.jsonl").unlink()
    (begun / "leaderboard.md").write_text("scores")
    assert not run_folder.holds_search(begun)
    with pytest.raises(UserError, match=r"no config.json with events.jsonl"):
        run_folder.create(begun, GIVEN, space, "sample", "")


def test_a_file_in_the_way_is_refused(tmp_path: Path, space: Space) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"--out .*run is not empty and holds no search"):
        run_folder.create(tmp_path / "run", GIVEN, space, "sample", "")


def test_an_empty_folder_is_taken(tmp_path: Path, space: Space) -> None:
    run_folder.create(tmp_path, GIVEN, space, "sample", "")
    assert (tmp_path / "config.json").is_file()


def test_a_search_that_failed_before_its_record_may_begin_anew(tmp_path: Path, space: Space) -> None:
    run_folder.create(tmp_path, GIVEN, space, "/data/typo", "")
    assert not run_folder.holds_search(tmp_path)
    run_folder.create(tmp_path, dataclasses.replace(GIVEN, seed=4), space, "/data/clips", "")
    assert run_folder.load(tmp_path)["source"] == "/data/clips"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, space: Space) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out .*file/run cannot be written \(Not a directory\)\. Choose a folder"):
        run_folder.create(tmp_path / "file" / "run", GIVEN, space, "sample", "")


def test_a_full_disk_leaves_the_old_config(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (begun / "config.json").read_text()
    write_text = Path.write_text

    def cut_off(self: Path, text: str) -> int:
        write_text(self, text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(OSError, match="No space left"):
        run_folder.save(begun, {"format": 1})
    assert (begun / "config.json").read_text() == before


def test_a_folder_without_a_search_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=rf"{folder} holds no search: it has no config.json. Name the folder"):
            run_folder.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"config.json is damaged \(.*\)\. Restore it from a copy"),
        (b"[]", r"config.json is damaged \(no JSON object\)\. Restore it from a copy"),
        (b"\xff\xfe", r"config.json is damaged \(.*\)\. Restore it from a copy"),
        (b"{}", r"config.json has format None; this version reads format 1\. Resume it with the version that wrote it"),
        (b'{"format": 7, "commit": "abc"}', r"has format 7; this version reads format 1.*commit abc"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_with_the_next_step(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        run_folder.load(tmp_path)


def test_the_same_command_again_goes_on(begun: Path) -> None:
    stored = run_folder.stored_arguments(run_folder.load(begun))
    for again in (GIVEN, dataclasses.replace(GIVEN, trials=99, time_budget=5.0, max_concurrent=1, address="local")):
        run_folder.check_same_search(begun, stored, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, r"seed 3 there, 4 now"),
        ({"space": "mfcc_fast"}, r"space 'quick' there, 'mfcc_fast' now"),
        ({"split": None}, r"split 'tfds' there, None now"),
        ({"fix": {}}, r"fix \{'network': 'cnn'\} there, \{\} now"),
        ({"sampler": "random"}, r"sampler 'tpe' there, 'random' now"),
        ({"scheduler": "none"}, r"scheduler 'asha' there, 'none' now"),
        ({"emotions": None}, r"emotions \('happy', 'sad'\) there, None now"),
        ({"grace": 2}, r"grace None there, 2 now"),
        ({"seed": 4, "grace": 2}, r"grace None there, 2 now; seed 3 there, 4 now"),
    ],
)
def test_another_search_in_the_folder_is_refused_with_every_difference(
    begun: Path, change: dict[str, Any], message: str
) -> None:
    stored = run_folder.stored_arguments(run_folder.load(begun))
    with pytest.raises(UserError, match=rf"holds another search \({message}\).*--resume"):
        run_folder.check_same_search(begun, stored, dataclasses.replace(GIVEN, **change))


@pytest.fixture
def described(prepared_tone_corpus: Path) -> Callable[..., dict[str, Any]]:
    corpus = open_corpus(prepared_tone_corpus)
    return lambda split="speaker_kfold:4:1", emotions=None: run_folder.describe_data(
        task_data(corpus, split, emotions, seed=0)
    )


def test_other_data_than_a_search_began_with_is_refused(
    tmp_path: Path, described: Callable[..., dict[str, Any]]
) -> None:
    stored = json.loads(json.dumps(described()))
    run_folder.check_same_data(tmp_path, None, stored)
    run_folder.check_same_data(tmp_path, stored, described())
    for now, key in (
        ({**described(), "manifest_hash": "other"}, "manifest_hash"),
        (described("speaker_kfold:4:2"), "split"),
        (described(emotions=("happy", "sad")), "emotions"),
    ):
        with pytest.raises(UserError, match=rf"searched on other data: {key} was .* now it is .*start a new search"):
            run_folder.check_same_data(tmp_path, stored, now)


def test_data_are_described_by_what_of_them_is_used(described: Callable[..., dict[str, Any]]) -> None:
    whole, half = described(), described(emotions=("sad", "happy", "fear"))
    assert whole["clips"] == {"train": 48, "validation": 24, "test": 24}  # 12 clips an actor
    assert half["clips"] == {"train": 24, "validation": 12, "test": 12}
    assert whole["actors"] == half["actors"] == {"train": 4, "validation": 2, "test": 2}
    assert half["emotions"] == ["fear", "happy", "sad"]  # the corpus's order, however they were typed
    assert np.array(half["val_totals"]).tolist() == [[2, 2, 2], [2, 2, 2]]
