"""The driver or a node killed at any moment: the search ends where one that nobody disturbed ends."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.proposals import Proposer
from search.record import Record, read_events
from search.rungs import RungGroups, StoppingRule, make_rule
from search.space import load_space
from search.study import Study, StudyTrial, trials_of
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_family import score_of
from tests.search.knob_search import knob_spaces

EPOCHS = 6  # of the space long


def options(folder: Path, corpus: Path, trials: int, concurrent: int) -> list[str]:
    return [
        "--space", "long", "--out", str(folder), "--data", str(corpus), "--cache-dir", str(folder.parent / "cache"),
        "--split", "speaker_kfold:4:1", "--trials", str(trials), "--max-concurrent", str(concurrent),
    ]  # fmt: skip


def told(trial: StudyTrial) -> dict[str, Any]:
    """All of a trial but when it was: every epoch's row, and what became of it."""
    return {"params": trial.params, "config": trial.config, "origin": trial.origin, "epochs": trial.epochs,
            "outcome": trial.outcome, "reason": trial.reason}  # fmt: skip


def rungs_of(folder: Path) -> dict[str, StoppingRule]:
    """The rungs that a replay of the record gives."""
    with knob_spaces(), Record(folder / "events.jsonl") as record:
        rungs = RungGroups(lambda: make_rule("asha", grace=1, reduction_factor=3, max_epochs=EPOCHS), lambda _: "")
        proposer = Proposer(load_space("long"), sampler="tpe", seed=0, study_name="x")
        Study(record, proposer, rungs, num_trials=0, max_epochs=EPOCHS)
    return rungs.rules


def optuna_table(folder: Path) -> pd.DataFrame:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (summary,) = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    return pd.DataFrame([{"state": t.state.name, "value": t.value, **t.params, "epochs": t.intermediate_values}
                         for t in trials])  # fmt: skip


def kill_and_resume(
    command: Callable[..., Command], folder: Path, start: list[str], kills: int, seed: int
) -> list[str]:
    """Kill the search *kills* times at random moments of its trials, then let it end; gives the last event of each."""
    generator = random.Random(seed)
    hit = []
    for number in range(kills):
        running = command(*(start if not number else ["--resume", str(folder)]))
        if not number:
            running.wait_for(folder / "events.jsonl")
        running.wait_for_epochs(folder, more=1)
        time.sleep(generator.uniform(0.0, 0.6))
        if running.process.poll() is not None:
            break  # it had come to its end
        running.kill()
        last = read_events(folder / "events.jsonl")[-1]
        hit.append(f"{last['kind']} of trial {last.get('number')}")
        running.clean_up()
    last_one = command("--resume", str(folder))
    code, out, err = last_one.end()
    assert code == 0, out + err
    return hit


def check_one_worker(command: Callable[..., Command], corpus: Path, tmp_path: Path, *, trials: int, kills: int) -> None:
    """With one worker everything equals an undisturbed search: every epoch row, the rungs, Optuna's table."""
    whole, torn = tmp_path / "whole" / "run", tmp_path / "torn" / "run"
    undisturbed = command(*options(whole, corpus, trials, 1))
    hit = kill_and_resume(command, torn, options(torn, corpus, trials, 1), kills, seed=trials)
    print(f"killed {len(hit)} times, after: {'; '.join(hit)}")
    code, out, err = undisturbed.end()
    assert code == 0, out + err
    expected, found = (trials_of(read_events(folder / "events.jsonl")) for folder in (whole, torn))
    assert {n: told(trial) for n, trial in found.items()} == {n: told(trial) for n, trial in expected.items()}
    assert rungs_of(torn) == rungs_of(whole)
    pd.testing.assert_frame_equal(optuna_table(torn), optuna_table(whole))
    boards = [pd.read_csv(folder / "leaderboard.csv").drop(columns="search_id") for folder in (whole, torn)]
    pd.testing.assert_frame_equal(*boards)
    epochs = [pd.read_parquet(folder / "epochs.parquet") for folder in (whole, torn)]
    pd.testing.assert_frame_equal(*epochs)
    loaded = (tmp_path / "torn" / "cache" / "loaded.txt").read_text().split()[1::2]
    assert any(int(epoch) >= 1 for epoch in loaded)


def test_a_search_killed_twice_ends_as_one_that_was_not(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    check_one_worker(command, prepared_tone_corpus, tmp_path, trials=5, kills=2)


@pytest.mark.slow
def test_a_search_killed_at_twenty_random_moments_ends_as_one_that_was_not(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    check_one_worker(command, prepared_tone_corpus, tmp_path, trials=40, kills=20)


@pytest.mark.slow
def test_a_search_ended_by_sigterm_and_then_by_two_signals_at_once_ends_as_one_that_was_not(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = command(*options(folder, prepared_tone_corpus, 4, 1), "--scheduler", "none")
    first.wait_for_epochs(folder, more=2)
    first.process.send_signal(signal.SIGTERM)
    code, out, err = first.end()
    assert code == 130, err
    assert f"interrupted; nothing is lost. Go on with:\n  python search/run.py --resume {folder}" in out
    assert read_events(folder / "events.jsonl")[-1]["reason"] == "interrupted"

    second = command("--resume", str(folder))
    second.wait_for_epochs(folder, more=2)
    for one in (signal.SIGINT, signal.SIGTERM):  # two of one kind may arrive as one
        second.process.send_signal(one)
    code, out, err = second.end()
    assert code == 130 and "Traceback" not in out + err
    assert read_events(folder / "events.jsonl")[-1]["kind"] != "ended"  # the second did not wait for that

    code, out, err = command("--resume", str(folder)).end()
    assert code == 0, out + err
    trials = trials_of(read_events(folder / "events.jsonl"))
    assert [trial.outcome for trial in trials.values()] == ["completed"] * 4
    for trial in trials.values():
        assert trial.scores == [score_of(trial.config["x"], epoch) for epoch in range(1, EPOCHS + 1)]


@pytest.mark.slow
def test_with_two_workers_no_trial_is_lost_or_run_twice_however_often_it_is_killed(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    """Their order is free, so what must hold is stated: numbers without gaps, each epoch once with its own score."""
    folder = tmp_path / "run"
    start = options(folder, prepared_tone_corpus, 24, 2)
    print("killed after:", "; ".join(kill_and_resume(command, folder, start, kills=8, seed=1)))
    events = read_events(folder / "events.jsonl")
    assert [event["number"] for event in events if event["kind"] == "suggested"] == list(range(24))
    ended = [event["number"] for event in events if event["kind"] in ("done", "stopped", "failed")]
    assert sorted(ended) == list(range(24))
    for trial in trials_of(events).values():
        assert trial.outcome in ("completed", "stopped")
        assert [report["epoch"] for report in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert trial.scores == [score_of(trial.config["x"], epoch) for epoch in range(1, len(trial.epochs) + 1)]
        assert (len(trial.epochs) == EPOCHS) == (trial.outcome == "completed")
    table = optuna_table(folder)
    assert len(table) == 24 and set(table["state"]) <= {"COMPLETE", "PRUNED"}


def test_the_same_seed_gives_the_same_board_twice(real_search: Search, tmp_path: Path) -> None:
    """Real networks on real features, one worker."""
    boards = []
    for name in ("first", "second"):
        search = real_search(tmp_path / name, "--space", "quick", "--trials", "4", "--max-concurrent", "1")
        assert search.code == 0
        board = pd.read_csv(search.folder / "leaderboard.csv")
        boards.append(board.drop(columns=["seconds", "search_id"]))
    pd.testing.assert_frame_equal(*boards)
    assert len(boards[0]) == 5  # and the classical baseline
