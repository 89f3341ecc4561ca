"""Finalists of a search over several spaces: one round, one look, one board, whatever family a finalist is of."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.finalists.ledger import read_ledger
from search.record import read_events
from search.study import StudyTrial, trials_of
from ser_data.errors import UserError
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_family import CLIPS, score_of
from tests.search.knob_search import Sitting
from tests.search.test_final_round import board_of

SPACES = {"plain": 3, "second": 2}  # epochs of their trials
ROUND = Path("finalists") / "round-1"
SPLIT_FOLDER = "speaker_kfold-4-1"
OPTIONS = ("--space", "plain,second", "--trials", "6", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def corpus(prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the corpus that no other test leaves looks in."""
    return Path(shutil.copytree(prepared_tone_corpus, tmp_path_factory.mktemp("several_judged") / "corpus"))


@pytest.fixture(scope="module")
def judged_search(knob_search: Search, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """All but one of a search's trials are finalists, so both spaces have some. Read only."""
    folder = tmp_path_factory.mktemp("several_finalists") / "run"
    return knob_search(folder, "--data", str(corpus), *OPTIONS, "--finalists", "5", "--seeds", "1")


@pytest.fixture
def judged_copy(judged_search: Sitting, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged_search.folder, tmp_path / "run"))


def searched(folder: Path) -> dict[str, StudyTrial]:
    """The trials of all spaces, by the names that boards give them."""
    return {
        f"{space}/{trial.trial_id}": trial
        for space in SPACES
        for trial in trials_of(read_events(folder / space / "events.jsonl")).values()
    }


def trained(folder: Path) -> list[StudyTrial]:
    return list(trials_of(read_events(folder / ROUND / SPLIT_FOLDER / "events.jsonl")).values())


def test_the_best_of_all_spaces_are_trained_at_their_own_length_and_stand_on_one_board(judged_search: Sitting) -> None:
    assert judged_search.code == 0, judged_search.text
    found = searched(judged_search.folder)
    best = sorted(found, key=lambda name: -found[name].best_score)[:5]
    board = board_of(judged_search.folder)
    finalists = board[board["role"] == "finalist"]
    assert set(finalists.index) == set(best)
    assert {name.partition("/")[0] for name in best} == set(SPACES)
    for name in best:
        own = [score_of(found[name].config["x"], epoch) for epoch in range(1, SPACES[name.partition("/")[0]] + 1)]
        assert finalists.loc[name, "val_uar"] == pytest.approx(max(own))
        assert finalists.loc[name, "test_uar"] == pytest.approx(round(max(own) * 2 * CLIPS) / (2 * CLIPS))
    for trial in trained(judged_search.folder):
        assert len(trial.epochs) == SPACES[str(trial.params["finalist"]).partition("/")[0]]


def test_the_average_is_over_the_finalists_of_all_spaces(judged_search: Sitting) -> None:
    table = pd.read_csv(judged_search.folder / ROUND / "test_predictions.csv", dtype={"speaker": str})
    emotions = ["anger", "disgust", "fear", "happy", "neutral", "sad"]
    rows = {name: part[emotions].to_numpy() for name, part in table.groupby("row")}
    finalists = board_of(judged_search.folder).query("role == 'finalist'").index
    mean = np.mean([rows[name] for name in finalists], axis=0)
    assert rows["ensemble"] == pytest.approx(mean, abs=1e-4)
    assert board_of(judged_search.folder).loc["ensemble", "trainings"] == 5


def test_the_verdicts_are_said_once_for_the_whole(judged_search: Sitting) -> None:
    text = (judged_search.folder / "finalists.md").read_text()
    assert text.startswith("# Finalists: plain,second on ")
    assert "The winner plain/t" in text and "the runner-up " in text and "the classical baseline" in text
    assert "second/t0000 (." not in text.replace("the runner-up second/t0000", "")  # not the winner's space's default
    assert "plain/t0000, seed 1 completed: " in judged_search.text
    assert "finalists, judged on test" in judged_search.text and "finalists.md" in judged_search.text
    assert "worth on test is in finalists.md" in (judged_search.folder / "leaderboard.md").read_text()


def test_one_look_stands_in_the_ledgers_of_the_search_of_its_spaces_and_of_the_corpus(
    judged_search: Sitting, corpus: Path
) -> None:
    (look,) = read_ledger(judged_search.folder)
    assert look.search_id == judged_search.config["search_id"]
    assert {name.partition("/")[0] for name in look.finalists} == set(SPACES)
    for folder in (judged_search.folder / "plain", judged_search.folder / "second"):
        assert read_ledger(folder) == [look]
    assert look in read_ledger(corpus)  # other searches of these tests have looked too


def test_the_whole_searchs_bundle_is_the_winners_and_its_spaces_keep_theirs(judged_search: Sitting) -> None:
    winner = board_of(judged_search.folder).query("role == 'finalist'").index[0]
    told = (judged_search.folder / "best" / "provenance.txt").read_text().splitlines()
    assert {f"trial_id={winner}", "judged_on_test=True", "space=plain"} < set(told)
    assert f"search_id={judged_search.config['search_id']}" in told
    assert "judged_on_test=False" in (judged_search.folder / "plain" / "best" / "provenance.txt").read_text()


def test_a_second_look_is_refused_and_a_plain_resume_is_finished(knob_search: Search, judged_copy: Path) -> None:
    before = (judged_copy / "finalists.csv").read_bytes()
    again = knob_search(judged_copy, "--resume")
    assert again.code == 0 and "is finished" in again.text
    with pytest.raises(UserError, match=r"finalists of .* \(plain/t000.*\) were judged on test on 20.*--force looks"):
        knob_search(judged_copy, "--resume", "--finalists", "1")
    assert (judged_copy / "finalists.csv").read_bytes() == before


def test_a_space_that_is_judged_alone_later_is_told_of_the_look(
    knob_search: Search, judged_search: Sitting, judged_copy: Path, tmp_path: Path
) -> None:
    alone = knob_search(judged_copy / "second", "--resume", "--finalists", "1", "--seeds", "1")
    assert alone.code == 0, alone.text
    assert judged_search.config["search_id"] in (judged_copy / "second" / "finalists.md").read_text()
    first, second = read_ledger(judged_copy / "second")
    assert (first.forced, second.forced) == (False, False) and second.finalists[0].startswith("t0")


@pytest.mark.slow
def test_a_search_killed_while_its_finalists_train_goes_on_with_them(
    command: Callable[..., Command], knob_search: Search, corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    first = command(
        "--space", "second,slow", "--out", str(folder), "--data", str(corpus), "--cache-dir", str(cache),
        "--trials", "3", "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none",
        "--finalists", "3", "--seeds", "1", "--max-concurrent", "1",
    )  # fmt: skip
    round_folder = folder / ROUND / SPLIT_FOLDER
    first.wait_for(round_folder)
    first.wait_for_epochs(round_folder, more=2)
    first.kill()
    assert not (folder / "test_ledger.json").exists()
    records = [folder / space / "events.jsonl" for space in ("second", "slow")]
    begun = [len(trials_of(read_events(record))) for record in records]

    last = knob_search(folder, "--resume", "--cache-dir", str(cache))
    assert last.code == 0 and "judged on test" in last.text, last.text
    assert sum(begun) == 3 and [len(trials_of(read_events(record))) for record in records] == begun
    lengths = {"second": 2, "slow": 4}
    trials = trained(folder)
    assert len(trials) == 3
    for trial in trials:
        length = lengths[str(trial.params["finalist"]).partition("/")[0]]
        assert [report["epoch"] for report in trial.epochs] == list(range(1, length + 1))
        assert [report["val_uar"] for report in trial.epochs] == [
            score_of(trial.config["x"], epoch) for epoch in range(1, length + 1)
        ]
    assert len(read_ledger(folder)) == 1
    assert np.isfinite(board_of(folder)["test_uar"]).all()
