"""Before the trials: what they share is computed once, watched, and can be interrupted, killed and wrong."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
import ray

from search.preparing import ERROR_FILE, PROGRESS_FILE, _Progress, _progress_line, largest_node, prepare_node
from search.record import read_events
from search.space import load_space
from search.storage.shared_files import SharedFiles
from search.trial_plan import TrialPlan
from search.tune_adapters import SittingStopper
from search.tuning import Resources
from ser_data.errors import UserError
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_search import Sitting, kinds, knob_spaces


def calls(folder: Path) -> list[dict[str, Any]]:
    """What the family's ``prepare`` was given, call by call."""
    path = folder.parent / f"{folder.name}-cache" / "prepared.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_ran_to_its_end(folder: Path) -> None:
    """One baseline, and four trials each through after its own number of epochs."""
    events = read_events(folder / "events.jsonl")
    assert [event["name"] for event in events if event["kind"] == "baseline"] == ["linear probe"]
    for event in events:
        if event["kind"] == "suggested":
            epochs = [e["report"]["epoch"] for e in events if e["kind"] == "epoch" and e["number"] == event["number"]]
            assert epochs == list(range(1, event["config"]["epochs"] + 1))
    assert sorted(event["number"] for event in events if event["kind"] == "done") == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def layered_search(knob_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search over the layered family that ran to its end. Read only."""
    return knob_search(tmp_path_factory.mktemp("layered") / "run", "--space", "layered", "--fix", "fault=none")


def test_a_search_prepares_before_its_trials_and_leaves_no_trace_of_it(layered_search: Sitting) -> None:
    assert layered_search.code == 0
    assert_ran_to_its_end(layered_search.folder)
    assert kinds(layered_search.folder)[:4] == ["format", "sitting", "baseline", "suggested"]
    assert not (layered_search.folder / PROGRESS_FILE).exists()
    assert not (layered_search.folder / ERROR_FILE).exists()


def test_the_family_is_given_every_combination_that_decides_what_is_prepared(layered_search: Sitting) -> None:
    (call,) = calls(layered_search.folder)
    assert [(config["depth"], config["seconds"]) for config in call["configs"]] == [
        (depth, seconds) for depth in (0, 1, 2) for seconds in (2.0, 4.0)
    ]
    assert call["threads"] == 2  # all cores of the tests' Ray


def test_the_worker_that_prepared_is_gone(layered_search: Sitting) -> None:
    (call,) = calls(layered_search.folder)
    with pytest.raises(ProcessLookupError):
        os.kill(call["pid"], 0)


def test_piped_output_says_what_is_prepared_and_what_came_of_it(layered_search: Sitting) -> None:
    assert re.search(r"\[ +\d+\.\d s\] frozen layers: 3 of 3 clips", layered_search.text)
    assert "linear probe: 0.500 in 2 s" in layered_search.text


def test_the_encoder_at_hand_decides_the_ranges_and_is_in_the_config(layered_search: Sitting) -> None:
    plan = layered_search.config["plan"]
    assert (plan["encoder"]["label"], plan["encoder"]["num_layers"], plan["encoder"]["pretrained"]) == (
        "tiny (random weights)", 2, False,
    )  # fmt: skip
    assert {trial.config["depth"] for trial in layered_search.trials.values()} <= {0, 1, 2}
    assert layered_search.trials[0].config["depth"] == 2  # the known-good depth of 9, as far as it goes


def test_the_board_has_the_baseline_among_the_trials_and_what_they_say_of_themselves(layered_search: Sitting) -> None:
    board = pd.read_csv(layered_search.folder / "leaderboard.csv").set_index("trial_id")
    probe = board.loc["probe"]
    assert (probe["status"], probe["origin"], probe["epochs"], probe["seconds"]) == ("completed", "baseline", 0, 2.0)
    assert (probe["val_uar"], probe["parameters"]) == (0.5, 12)
    assert board["val_uar"].is_monotonic_decreasing and len(board) == 5
    assert set(board["encoder"]) == {"tiny (random weights)"}
    trials = board.drop("probe")
    assert list(trials["trained_parameters"]) == [3 + depth for depth in trials["config.depth"]]
    assert set(trials["precision"]) == {"fp32"}
    epochs = pd.read_parquet(layered_search.folder / "epochs.parquet")
    assert set(epochs["boundary"]) <= {"layer 0", "layer 1", "layer 2"}


def test_the_end_says_what_the_best_trial_gains_and_that_weights_were_random(layered_search: Sitting) -> None:
    markdown = (layered_search.folder / "leaderboard.md").read_text()
    for text in (layered_search.text, markdown):
        assert re.search(r"The best trial t0001 \(1\.000\) gains \+\.500 over the linear probe \(\.500\), 95 %", text)
        assert "Encoder tiny (random weights): it was never pretrained" in text
    assert "split speaker_kfold:4:1, encoder tiny (random weights)" in markdown.splitlines()[0]
    assert " probe " in layered_search.text
    assert "4 trials: 4 completed" in markdown and "best of 4" in markdown


def test_a_resumed_search_prepares_again_and_writes_its_baseline_once(knob_search: Search, tmp_path: Path) -> None:
    first = knob_search(tmp_path / "run", "--space", "layered", "--fix", "fault=none", "--trials", "2")
    assert first.code == 0
    again = knob_search(tmp_path / "run", "--resume", "--trials", "4")
    assert again.code == 0
    assert len(calls(tmp_path / "run")) == 2
    assert_ran_to_its_end(tmp_path / "run")


def test_a_pinned_depth_is_all_that_is_prepared(knob_search: Search, tmp_path: Path) -> None:
    options = ["--space", "layered", "--fix", "fault=none", "--fix", "depth=1", "--trials", "1"]
    assert knob_search(tmp_path / "run", *options).code == 0
    (call,) = calls(tmp_path / "run")
    assert [(config["depth"], config["seconds"]) for config in call["configs"]] == [(1, 2.0), (1, 4.0)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refuses", r"^the cache is too small: 3 GB are needed, --cache-gb allows 1$"),
        (
            "raises",
            rf"so no trial was started: ValueError: a fault in layer 2, \(traceback in .*{ERROR_FILE}\)\. Mend it",
        ),
        ("dies", r"so no trial was started: its worker process died \(out of memory.*--resume "),
        ("not_a_number", r"ValueError: the linear probe has val_uar = nan, not a finite number"),
    ],
)
def test_a_preparation_that_fails_ends_the_search_in_one_line_and_starts_no_trial(
    knob_search: Search, tmp_path: Path, fault: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        knob_search(tmp_path / "run", "--space", "layered", "--fix", f"fault={fault}")
    assert kinds(tmp_path / "run") == ["format", "sitting"]
    has_traceback = fault in ("raises", "not_a_number")
    assert (tmp_path / "run" / ERROR_FILE).exists() == has_traceback
    if has_traceback:
        assert "Traceback" in (tmp_path / "run" / ERROR_FILE).read_text()


def test_time_that_is_up_ends_the_preparation(knob_search: Search, tmp_path: Path) -> None:
    seen: list[bool] = []  # the file is gone once nobody waits for it

    def is_over(self: SittingStopper) -> bool:
        seen.append((tmp_path / "run" / PROGRESS_FILE).exists())
        return any(seen)

    with mock.patch.object(SittingStopper, "out_of_time", property(is_over)):
        first = knob_search(
            tmp_path / "run", "--space", "layered", "--fix", "fault=waits_once", "--time-budget", "10h",
            "--trials", "4",
        )  # fmt: skip
    assert kinds(tmp_path / "run") == ["format", "sitting", "ended"]
    assert (first.code, "Traceback" in first.text) == (1, False)


@pytest.mark.slow
def test_a_search_killed_and_then_interrupted_while_it_prepares_goes_on(
    command: Callable[..., Command], knob_search: Search, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "run-cache"
    begin = command(
        "--space", "layered", "--out", str(folder), "--data", str(prepared_tone_corpus), "--cache-dir", str(cache),
        "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none", "--fix", "fault=waits_once",
    )  # fmt: skip
    begin.wait_for(folder / PROGRESS_FILE)
    begin.kill()
    assert kinds(folder) == ["format", "sitting"]

    (cache / "prepared.jsonl").unlink()  # so that it waits once more
    (folder / PROGRESS_FILE).unlink()
    second = command("--resume", str(folder), "--cache-dir", str(cache))
    second.wait_for(folder / PROGRESS_FILE)
    second.type_ctrl_c()
    code, out, err = second.end()
    assert code == 130, err
    assert f"interrupted; nothing is lost. Go on with:\n  python search/run.py --resume {folder}" in out
    assert "Traceback" not in out + err
    assert kinds(folder) == ["format", "sitting", "sitting", "ended"]

    last = knob_search(folder, "--resume")
    assert last.code == 0
    assert_ran_to_its_end(folder)


def test_a_space_that_cannot_be_trained_is_refused_before_anything_is_prepared(
    knob_search: Search, tmp_path: Path
) -> None:
    corners = mock.patch("search.space.Space.smallest_and_largest", lambda self: ({"x": "wide"},))
    with corners, pytest.raises(UserError, match=r"cannot be trained, so no trial was started.*'x': 'wide'"):
        knob_search(tmp_path / "run", "--space", "layered", "--fix", "fault=none")
    assert calls(tmp_path / "run") == []


def test_the_node_with_most_cores_prepares_and_one_without_a_gpu_does_not_where_one_is_needed() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0}, {}]
    assert largest_node(nodes, with_gpu=False) == (64, 0)
    assert largest_node(nodes, with_gpu=True) == (8, 1)


def test_progress_of_a_single_step_is_its_name(tmp_path: Path) -> None:
    _Progress(SharedFiles(tmp_path))("linear probe", 0, 1)
    assert _progress_line(tmp_path) == "linear probe"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("frozen layers", "frozen layers: 1,200 of 5,884 clips"),
        ("linear probe, epochs", "linear probe: 1,200 of 5,884 epochs"),
    ],
)
def test_progress_is_a_line_with_its_unit(tmp_path: Path, what: str, line: str) -> None:
    assert _progress_line(tmp_path) is None
    _Progress(SharedFiles(tmp_path))(what, 1200, 5884)
    assert _progress_line(tmp_path) == line


def test_a_space_names_every_configuration_to_prepare_once() -> None:
    with knob_spaces():
        space = load_space("layered").bound_to(12)
    assert len(space.to_prepare()) == 13 * 2
    assert {config["fault"] for config in space.to_prepare()} == {"none"}


@pytest.mark.parametrize("lost", [2, 10])
def test_a_node_that_is_lost_while_it_prepares_is_followed_by_another_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    answers = mock.Mock(side_effect=[*[ray.exceptions.NodeDiedError("gone")] * lost, []])
    monkeypatch.setattr(ray, "remote", mock.Mock())
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2}}])
    monkeypatch.setattr(ray, "wait", lambda refs, **_: (refs, []))
    monkeypatch.setattr(ray, "get", answers)
    plan = TrialPlan(str(tmp_path), "", {}, 0, 1, 1)

    def prepared() -> Any:
        return prepare_node([], plan, Resources(1, 0, 2), stopped=lambda: False, show=lambda line: None)

    if lost < 10:
        assert prepared() == [] and answers.call_count == lost + 1
    else:
        with pytest.raises(UserError, match=r"could not be prepared, .* its worker process died"):
            prepared()
        assert answers.call_count == 10
