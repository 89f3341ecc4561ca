"""The finalists' board: means over seeds, intervals over test speakers, sentences that claim no more than they show."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from search.finalists.board import caption, finalist_board, finalist_table, verdicts, write_finalists
from search.finalists.judging import JudgedRow
from search.finalists.ledger import Look
from search.finalists.rounds import Candidate, Round
from ser_models.metrics import uar_difference_interval, uar_interval
from tests.search.boards import FAIR, GOOD, POOR, VAL_TOTALS, config_json
from tests.search.test_ledger import LOOK

ROUND = Round(1, (Candidate("t0003", "finalist", {}), Candidate("t0001", "finalist", {})), 2, ("tfds",))


def scores(hits: list[list[int]], **more: float) -> dict[str, Any]:
    uar = float((np.sum(hits, axis=0) / np.sum(VAL_TOTALS, axis=0)).mean())
    return {"uar": uar, "accuracy": uar, "macro_f1": uar, "loss": 1.0, "hits": hits, **more}


ROWS = [
    JudgedRow("t0003", "finalist", {"x": 1, "y": 0.5}, [0.5, 0.7], [scores(GOOD), scores(FAIR)], 2),
    JudgedRow("t0001", "finalist", {"x": 2, "y": 0.5}, [0.5], [scores(FAIR)], 1),
    JudgedRow("t0000", "default", {"x": 3, "y": 0.5}, [0.4, 0.4], [scores(POOR), scores(POOR)], 2, True),
    JudgedRow("ensemble", "ensemble", {}, [], [scores(GOOD)], 3),
    JudgedRow("SVM", "classical", {}, [0.3], [scores(POOR)], 1),
]


@pytest.fixture
def board() -> pd.DataFrame:
    return finalist_board(ROWS, VAL_TOTALS)


def test_scores_are_means_over_seeds_with_the_samples_deviation(board: pd.DataFrame) -> None:
    winner = board.iloc[0]
    assert winner[["val_uar", "test_uar"]].tolist() == pytest.approx([0.6, (5 / 6 + 0.5) / 2])
    assert winner["test_uar_sd"] == pytest.approx(np.std([5 / 6, 0.5], ddof=1))
    assert board.set_index("name").loc["t0001", ["val_uar_sd", "test_uar_sd"]].isna().all()
    assert np.isnan(board.set_index("name").loc["ensemble", "val_uar"])


def test_the_interval_is_of_the_mean_over_seeds(board: pd.DataFrame) -> None:
    low, high = uar_interval(np.mean([GOOD, FAIR], axis=0), np.array(VAL_TOTALS))
    assert tuple(board.iloc[0][["test_uar_low", "test_uar_high"]]) == (low, high)


def test_the_winner_is_compared_with_runner_up_default_and_classical_and_the_ensemble_with_it() -> None:
    sentences = verdicts(ROWS, VAL_TOTALS)
    beginnings = [
        "The winner t0003 (.667) gains +.167 over the runner-up t0001 (.500), 95 % over 3 test speakers ",
        "The winner t0003 (.667) gains +.333 over the space's default t0000 (.333), 95 % over 3 test speakers ",
        "The winner t0003 (.667) gains +.333 over the classical baseline (statistics + SVM) (.333), 95 % over 3",
        "The average of the finalists' probabilities (.833) gains +.167 over the winner t0003 (.667), 95 % over 3 test",
    ]
    assert [sentence[: len(start)] for sentence, start in zip(sentences, beginnings, strict=True)] == beginnings
    low, high = uar_difference_interval(np.mean([GOOD, FAIR], axis=0), np.array(FAIR), np.array(VAL_TOTALS))
    assert (low > 0) == sentences[0].endswith("a real gain on these speakers.")
    assert high >= low


def test_a_winner_that_is_the_default_is_called_so_and_compared_with_no_default() -> None:
    rows = [replace(ROWS[0], is_default=True), ROWS[1], ROWS[4]]
    sentences = verdicts(rows, VAL_TOTALS)
    assert sentences[0] == "The winner t0003 is the space's default configuration: the search found no better one."
    assert len(sentences) == 3 and not any("default t" in sentence for sentence in sentences)


def test_the_winner_is_compared_with_the_default_of_its_own_space_and_no_other() -> None:
    rows = [
        replace(ROWS[0], name="a/t0003", space="a"),
        replace(ROWS[1], name="b/t0000", space="b", is_default=True),
        replace(ROWS[2], name="a/t0000", space="a"),
    ]
    first, second = verdicts(rows, VAL_TOTALS)
    assert first.startswith("The winner a/t0003 (.667) gains +.167 over the runner-up b/t0000 (.500)")
    assert second.startswith("The winner a/t0003 (.667) gains +.333 over its space's default a/t0000 (.333)")
    default = verdicts([replace(rows[0], is_default=True), rows[1]], VAL_TOTALS)[0]
    assert default.startswith(
        "The winner a/t0003 is its space's default configuration: the search found no better one,"
    )


def test_no_finalist_no_verdict() -> None:
    assert verdicts(ROWS[3:], VAL_TOTALS) == []


def captioned(look: Look = LOOK, earlier: tuple[Look, ...] = (), **changes: Any) -> str:
    return "\n".join(caption(ROWS, VAL_TOTALS, replace(ROUND, **changes), look, earlier, "emo_superb:1"))


def test_a_reader_is_told_who_judged_and_which_trainings_do_not_count() -> None:
    text = captioned()
    assert "Judged once on 12 clips of 3 test speakers (tfds), 2026-01-01T12:00:00+00:00" in text
    assert "t0001: 1 of its 2 trainings do not count, since one failed." in text
    assert "FORCED" not in text and "other searches" not in text and "fold" not in text


def test_a_forced_look_and_looks_of_others_are_told() -> None:
    other = replace(LOOK, search_id="cafe", at="2025-12-31T12:00:00+00:00")
    text = captioned(replace(LOOK, round=2, forced=True), (LOOK, other))
    assert "FORCED: this search had looked at these test speakers before (2026-01-01T12:00:00+00:00)" in text
    assert "1 earlier looks of other searches at these test speakers (cafe, 2025-12-31T12:00:00+00:00)" in text


def test_several_folds_are_called_slightly_optimistic() -> None:
    assert "Configurations were chosen on emo_superb:1" in captioned(splits=("emo_superb:1", "emo_superb:2"))


def test_files_and_terminal_show_every_row_and_only_settings_that_differ(board: pd.DataFrame, tmp_path: Path) -> None:
    write_finalists(tmp_path, board, ["One line."], config_json())
    assert list(pd.read_csv(tmp_path / "finalists.csv")["name"]) == ["t0003", "t0001", "t0000", "ensemble", "SVM"]
    text = (tmp_path / "finalists.md").read_text()
    assert "- One line." in text
    assert "| 1 | t0003 | finalist | 2 | 0.600 | 0.667 |" in text
    assert "x=1" in text and "y=" not in text
    console = Console(file=io.StringIO(), width=120)
    console.print(finalist_table(board))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above
    assert all(name in shown for name in ("t0003", "ensemble", "classical", "x=2"))


def test_two_emotions_have_a_column_for_roc_auc(tmp_path: Path) -> None:
    rows = [replace(ROWS[0], scores=[scores(GOOD, roc_auc=0.9), scores(FAIR, roc_auc=0.7)])]
    board = finalist_board(rows, VAL_TOTALS)
    assert board["test_roc_auc"].tolist() == pytest.approx([0.8])
    write_finalists(tmp_path, board, [], config_json())
    lines = (tmp_path / "finalists.md").read_text().splitlines()
    assert "| ROC-AUC |" in lines[-3]
    assert lines[-3].count("|") == lines[-2].count("|") == lines[-1].count("|")
    assert " | 0.800 | " in lines[-1]
