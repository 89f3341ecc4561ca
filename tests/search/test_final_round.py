"""Finalists of whole searches on Ray: trained again, judged on test once, and a second look refused unless forced."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from search.finalists.final_round import check_can_be_judged
from search.finalists.ledger import read_ledger
from search.record import read_events
from search.study import trials_of
from ser_data.corpus import open_corpus
from ser_data.errors import UserError
from ser_data.splits import resolve_split
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_family import CLIPS, score_of
from tests.search.knob_search import Sitting

OPTIONS = ("--space", "plain", "--finalists", "2", "--seeds", "2", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def corpus(prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the corpus that no other test leaves looks in."""
    return Path(shutil.copytree(prepared_tone_corpus, tmp_path_factory.mktemp("judged") / "corpus"))


@pytest.fixture(scope="module")
def judged_search(knob_search: Search, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search with finalists that ran to its end. Read only; copy the folder before changing anything."""
    return knob_search(tmp_path_factory.mktemp("finalists") / "run", "--data", str(corpus), *OPTIONS)


@pytest.fixture
def judged_copy(judged_search: Sitting, tmp_path: Path) -> Path:
    shutil.copytree(judged_search.folder, tmp_path / "run")
    return tmp_path / "run"


def finalist_records(folder: Path, round_number: int = 1) -> list[Path]:
    return sorted((folder / "finalists" / f"round-{round_number}").glob("*/events.jsonl"))


def board_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "finalists.csv").set_index("name")


def expected_test_uar(x: float) -> float:
    """What the knob family's probabilities are right on, of the two test speakers' clips of an emotion."""
    own = 2 * CLIPS
    return round(max(score_of(x, epoch) for epoch in (1, 2, 3)) * own) / own


def test_the_best_are_trained_with_every_seed_and_judged_on_test(judged_search: Sitting) -> None:
    assert judged_search.code == 0
    ranked = sorted(judged_search.trials.values(), key=lambda trial: -trial.best_score)
    board = board_of(judged_search.folder)
    finalists = board[board["role"] == "finalist"]
    assert set(finalists.index) == {trial.trial_id for trial in ranked[:2]}
    assert set(finalists["trainings"]) == {2}
    for trial in ranked[:2]:
        assert finalists.loc[trial.trial_id, "test_uar"] == pytest.approx(expected_test_uar(trial.config["x"]))
        assert finalists.loc[trial.trial_id, "val_uar"] == pytest.approx(trial.best_score)
    assert {"ensemble", "SVM"} < set(board.index)


def test_every_training_is_in_the_rounds_own_record(judged_search: Sitting) -> None:
    (record,) = finalist_records(judged_search.folder)
    trained = trials_of(read_events(record))
    assert [trial.outcome for trial in trained.values()] == ["completed"] * len(trained)
    assert len(trained) in (4, 6)  # two finalists, and the default unless it is one
    assert not list(record.parent.glob("trials/*"))  # judged: their checkpoints are no longer needed


def test_the_boards_and_the_terminal_say_what_was_judged(judged_search: Sitting) -> None:
    assert "finalists, judged on test" in judged_search.text
    assert "Judged once on 24 clips of 2 test speakers (speaker_kfold:4:1)" in judged_search.text
    assert "over the classical baseline (statistics + SVM)" in judged_search.text.replace("against", "over")
    assert "worth on test is in finalists.md" in (judged_search.folder / "leaderboard.md").read_text()
    assert judged_search.text.rindex("finalists, judged") > judged_search.text.index("leaderboard")


def test_the_page_shows_the_finalists_on_test(judged_search: Sitting) -> None:
    assert str(judged_search.folder / "leaderboard.html") in judged_search.text
    assert "--finalists" not in judged_search.text.partition("finalists, judged")[2]  # nothing proposes a second look
    page = (judged_search.folder / "leaderboard.html").read_text()
    assert "Finalists on test" in page and "Judged once on 24 clips" in page
    predictions = pd.read_csv(judged_search.folder / "predictions.csv")
    assert len(predictions) % 24 == 0 and {"ensemble", "SVM"} < set(predictions["row"])
    assert (judged_search.folder / "figures" / "confusion_ensemble.svg").is_file()


def test_the_look_is_in_both_ledgers(judged_search: Sitting, corpus: Path) -> None:
    (look,) = read_ledger(judged_search.folder)
    assert look.search_id == judged_search.config["search_id"]
    assert look.splits == ("speaker_kfold:4:1",) and not look.forced
    assert look in read_ledger(corpus)


def test_the_bundle_is_the_winners_and_says_what_it_is_worth_on_test(judged_search: Sitting) -> None:
    provenance = (judged_search.folder / "best" / "provenance.txt").read_text()
    winner = board_of(judged_search.folder).query("role == 'finalist'").iloc[0]
    assert f"trial_id={winner.name}" in provenance and "judged_on_test=True" in provenance
    assert f"'test_uar': {winner['test_uar']}" in provenance


def test_every_test_clip_has_a_prediction_of_every_row(judged_search: Sitting) -> None:
    table = pd.read_csv(judged_search.folder / "finalists" / "round-1" / "test_predictions.csv", dtype={"speaker": str})
    assert set(table.groupby("row").size()) == {24}
    assert table.groupby("row")["clip"].nunique().eq(24).all()
    emotions = ["anger", "disgust", "fear", "happy", "neutral", "sad"]
    assert table[emotions].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-3)
    right = table["predicted"] == table["emotion"]
    winner = board_of(judged_search.folder).iloc[0]
    assert right[table["row"] == winner.name].mean() == pytest.approx(winner["test_accuracy"])


def test_a_finished_search_with_finalists_says_so(knob_search: Search, judged_copy: Path) -> None:
    before = (judged_copy / "finalists.csv").read_bytes()
    again = knob_search(judged_copy, "--resume")
    assert again.code == 0 and "is finished" in again.text
    assert (judged_copy / "finalists.csv").read_bytes() == before


def test_a_second_look_is_refused_and_a_forced_one_is_told(knob_search: Search, judged_copy: Path) -> None:
    with pytest.raises(UserError, match=r"finalists of .* \(t000.*\) were judged on test on 20.*--force looks again"):
        knob_search(judged_copy, "--resume", "--finalists", "1")
    assert not finalist_records(judged_copy, round_number=2)

    forced = knob_search(judged_copy, "--resume", "--finalists", "1", "--seeds", "1", "--force")
    assert forced.code == 0
    assert "FORCED: this search had looked at these test speakers before" in (judged_copy / "finalists.md").read_text()
    assert [look.forced for look in read_ledger(judged_copy)] == [False, True]
    assert len(finalist_records(judged_copy, round_number=2)) == 1


def test_a_longer_search_does_not_look_again_by_itself(knob_search: Search, judged_copy: Path) -> None:
    longer = knob_search(judged_copy, "--resume", "--trials", "6", "--max-concurrent", "1")
    assert longer.code == 0 and len(longer.trials) == 6
    assert "were judged on test before, and are not judged again" in longer.text
    assert len(read_ledger(judged_copy)) == 1


def test_another_search_is_told_of_the_look(
    knob_search: Search, judged_search: Sitting, corpus: Path, tmp_path: Path
) -> None:
    other = knob_search(tmp_path / "run", "--data", str(corpus), *OPTIONS[:2], "--finalists", "1", "--seeds", "1")
    assert "earlier looks of other searches at these test speakers" in other.text.replace("\n", " ")
    assert judged_search.config["search_id"] in (tmp_path / "run" / "finalists.md").read_text()


@pytest.mark.slow
def test_all_folds_judge_every_speaker_once(knob_search: Search, tmp_path: Path) -> None:
    search = knob_search(tmp_path / "run", *OPTIONS[:2], "--finalists", "1", "--seeds", "1", "--folds", "all")
    assert search.code == 0
    assert len(finalist_records(search.folder)) == 4
    board = board_of(search.folder)
    assert board.query("role == 'finalist'")["trainings"].tolist() == [4]
    table = pd.read_csv(search.folder / "finalists" / "round-1" / "test_predictions.csv", dtype={"speaker": str})
    of_one = table[table["row"] == board.index[0]]
    assert of_one["clip"].is_unique and of_one["speaker"].nunique() == 8
    assert "Each fold's networks were judged on its own test speakers" in search.text


def test_finalists_of_a_finished_search_can_be_asked_for_later(
    knob_search: Search, finished_search: Sitting, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished_search.folder, tmp_path / "run"))
    later = knob_search(folder, "--resume", "--finalists", "1", "--seeds", "1")
    assert later.code == 0
    assert [event["kind"] for event in read_events(folder / "events.jsonl")].count("suggested") == 4
    assert board_of(folder)["role"].tolist()[0] == "finalist"


def test_a_search_killed_while_its_finalists_train_goes_on_with_them(
    command: Callable[..., Command], knob_search: Search, corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    first = command(
        "--space", "slow", "--out", str(folder), "--data", str(corpus), "--cache-dir", str(cache), "--trials", "2",
        "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none", "--finalists", "1",
        "--seeds", "2", "--max-concurrent", "1",
    )  # fmt: skip
    round_folder = folder / "finalists" / "round-1" / "speaker_kfold-4-1"
    first.wait_for(round_folder)
    first.wait_for_epochs(round_folder, more=2)
    first.kill()
    assert [event["kind"] for event in read_events(folder / "events.jsonl")][-1] == "ended"
    before = trials_of(read_events(round_folder / "events.jsonl"))
    assert before[0].epochs and not (folder / "test_ledger.json").exists()

    second = knob_search(folder, "--resume", "--cache-dir", str(cache))
    assert second.code == 0 and "judged on test" in second.text
    trained = trials_of(read_events(round_folder / "events.jsonl"))
    for trial in trained.values():
        assert [report["epoch"] for report in trial.epochs] == [1, 2, 3, 4]
        assert [report["val_uar"] for report in trial.epochs] == [score_of(trial.config["x"], e) for e in range(1, 5)]
    assert f"{trained[0].config['x']} " in (cache / "loaded.txt").read_text()  # it went on from its checkpoint
    assert np.isfinite(board_of(folder)["test_uar"]).all()


def test_a_split_without_test_clips_is_refused_by_name(corpus: Path) -> None:
    opened = open_corpus(corpus)
    split = resolve_split("speaker_kfold:4:1", opened, named=None, seed=0)
    split.parts[split.parts == "test"] = ""
    data = SimpleNamespace(corpus=opened, split=split, emotions=opened.emotions)
    with pytest.raises(UserError, match=r"--finalists: the split speaker_kfold:4:1 has no test clips .* leave --fin"):
        check_can_be_judged(data)  # type: ignore[arg-type]  # what it looks at of a TaskData
