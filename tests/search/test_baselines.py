"""Baselines: read from the record, ranked beside the trials, and what the best trial gains over them."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from search.baselines import baseline_event, baselines_of, check_baseline, row_name
from search.gains import gains
from search.leaderboard import caption, head, leaderboard, split_settings, write_leaderboard
from search.study import StudyTrial
from search.terminal import board_table
from ser_models.metrics import uar_difference_interval
from ser_models.trial import Baseline
from tests.search.boards import FAIR, GOOD, POOR, VAL_TOTALS, config_json, epoch, trial


def probe(hits: Sequence[Sequence[int]], **values: Any) -> Baseline:
    return Baseline("linear probe", {**epoch(1, hits), "num_parameters": 9, **values})


def encoder_config(**encoder: Any) -> dict[str, Any]:
    config = config_json()
    config["plan"]["encoder"] = {"label": "some/encoder", "pretrained": True, **encoder}
    return config


def test_the_record_gives_back_the_baselines() -> None:
    events = [{"kind": "format"}, {"kind": "baseline", "name": "linear probe", "report": {"val_uar": 0.5}, "at": 1.0}]
    assert baselines_of(events) == [Baseline("linear probe", {"val_uar": 0.5})]


def test_of_several_encoders_the_record_says_whose_a_baseline_is() -> None:
    alone, of_one = Baseline("linear probe", {"val_uar": 0.5}), Baseline("linear probe", {"val_uar": 0.5}, "a/x")
    assert "encoder" not in baseline_event(alone)
    assert baselines_of([baseline_event(alone), baseline_event(of_one)]) == [alone, of_one]
    assert (alone.title, of_one.title) == ("linear probe", "linear probe of a/x")


def test_a_row_is_called_by_the_last_word() -> None:
    assert row_name(Baseline("nearest class mean", {})) == "mean"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "good", True])
def test_a_baseline_that_cannot_be_ranked_is_refused_by_name(value: Any) -> None:
    check_baseline(probe(FAIR))
    with pytest.raises(ValueError, match=r"the linear probe has val_macro_f1 = .*, not a finite number"):
        check_baseline(probe(FAIR, val_macro_f1=value))


@pytest.fixture
def board() -> pd.DataFrame:
    trials = [
        trial(0, [epoch(1, POOR, precision="bf16", trained_parameters=7)], units=128),
        trial(1, [epoch(1, GOOD, precision="bf16", trained_parameters=8)], units=256),
        trial(2, [], "failed", units=64),
        trial(3, [epoch(1, FAIR)], units=64),
    ]
    return leaderboard(trials, encoder_config(), baselines=[probe(FAIR)])


def test_a_baseline_ranks_by_its_score_and_behind_a_trial_with_the_same(board: pd.DataFrame) -> None:
    assert list(board["trial_id"]) == ["t0001", "t0003", "probe", "t0000", "t0002"]
    assert list(board["rank"]) == [1, 2, 3, 4, 5]


def test_a_baseline_has_scores_and_an_interval_and_no_configuration(board: pd.DataFrame) -> None:
    row = board.set_index("trial_id").loc["probe"]
    assert (row["status"], row["origin"], row["epochs"], row["seconds"], row["parameters"]) == (
        "completed", "baseline", 0, 1.2, 9,
    )  # fmt: skip
    assert (row["val_uar"], row["val_accuracy"], row["val_macro_f1"]) == pytest.approx((0.5, 0.49, 0.48))
    assert row["val_uar_low"] <= 0.5 <= row["val_uar_high"]
    assert pd.isna(row["config.units"]) and pd.isna(row["best_epoch"])


def test_encoder_precision_and_trained_parameters_follow_the_columns_that_were_there(
    board: pd.DataFrame, tmp_path: Path
) -> None:
    columns = list(board.columns)
    at = columns.index("search_id")
    assert columns[at + 1 : at + 4] == ["encoder", "precision", "trained_parameters"]
    write_leaderboard(tmp_path, board, encoder_config(), ending=None)
    text = pd.read_csv(tmp_path / "leaderboard.csv", dtype=str, keep_default_na=False).set_index("trial_id")
    assert set(text["encoder"]) == {"some/encoder"}
    assert dict(text["precision"]) == {"t0001": "bf16", "t0003": "", "probe": "", "t0000": "bf16", "t0002": ""}
    assert (text.loc["t0001", "trained_parameters"], text.loc["t0001", "config.units"]) == ("8", "256")


def test_another_family_has_those_columns_empty() -> None:
    row = leaderboard([trial(0, [epoch(1, FAIR)], x=0.5)], config_json()).iloc[0]
    assert row[["encoder", "precision", "trained_parameters"]].isna().all()


def test_baselines_count_as_no_trials(board: pd.DataFrame, tmp_path: Path) -> None:
    write_leaderboard(tmp_path, board, encoder_config(), ending="trials")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "best of 3, optimistic" in text
    assert "4 trials: 3 completed, 1 failed." in text


def test_what_all_trials_share_is_told_although_a_baseline_lacks_it() -> None:
    trials = [trial(number, [epoch(1, FAIR)], x=number, network="cnn") for number in range(2)]
    board = leaderboard(trials, config_json(), baselines=[probe(POOR)])
    assert split_settings(board) == ({"network": "cnn"}, ["x"])


def test_a_baseline_is_shown_wherever_it_ranks(tmp_path: Path) -> None:
    trials = [trial(number, [epoch(1, FAIR)], x=number) for number in range(60)]
    board = leaderboard(trials, config_json(), baselines=[probe(POOR)])
    assert list(head(board, 2)["trial_id"]) == ["t0000", "t0001", "probe"]
    assert board_table(board).row_count == 11
    console = Console(file=io.StringIO(), width=100)
    console.print(board_table(board))
    assert "probe" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above
    write_leaderboard(tmp_path, board, config_json(), ending=None)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| 61 | probe | completed |" in text
    assert "10 more rows: leaderboard.csv" in text


def test_random_weights_are_said_in_words_and_in_the_title(tmp_path: Path) -> None:
    config = encoder_config(label="tiny (random weights)", pretrained=False)
    board = leaderboard([trial(0, [epoch(1, FAIR)], x=0.5)], config)
    assert caption(board, config)[0].startswith("Encoder tiny (random weights): it was never pretrained")
    write_leaderboard(tmp_path, board, config, ending=None)
    assert "encoder tiny (random weights)" in (tmp_path / "leaderboard.md").read_text().splitlines()[0]
    assert "never trained" not in " ".join(caption(board, encoder_config()))


@pytest.fixture
def several() -> dict[str, Any]:
    config = config_json()
    labels = {"a/x": True, "b/y": True, "c (random weights)": False}
    config["plan"]["encoders"] = [{"label": label, "pretrained": pretrained} for label, pretrained in labels.items()]
    return config


def rows_of_several() -> tuple[list[StudyTrial], list[Baseline]]:
    trials = [
        trial(0, [epoch(1, POOR)], encoder="a/x", units=128),
        trial(1, [epoch(1, FAIR)], encoder="b/y", units=128),
        trial(2, [epoch(1, GOOD)], "failed", encoder="a/x", units=64),
        trial(3, [], "failed", encoder="c (random weights)", units=64),
    ]
    return trials, [Baseline("linear probe", epoch(1, hits), label) for label, hits in (("a/x", FAIR), ("b/y", POOR))]


def test_each_row_has_its_own_of_several_encoders(several: dict[str, Any], tmp_path: Path) -> None:
    trials, probes = rows_of_several()
    board = leaderboard(trials, several, baselines=probes)
    assert dict(zip(board["trial_id"], board["encoder"], strict=True)) == {
        "t0000": "a/x", "t0001": "b/y", "t0002": "a/x", "t0003": "c (random weights)", "probe a/x": "a/x",
        "probe b/y": "b/y",
    }  # fmt: skip
    write_leaderboard(tmp_path, board, several, ending="trials")
    text = (tmp_path / "leaderboard.md").read_text()
    assert ", encoders a/x, b/y, c (random weights)" in text.splitlines()[0]
    assert "| probe b/y | completed |" in text
    assert (
        "- Encoder c (random weights): it was never pretrained, so no score of it speaks of a pretrained one." in text
    )
    assert (
        "- Best of each encoder, of those tried: a/x 0.333 (t0000, 2 trials); b/y 0.500 (t0001, 1 trial); "
        "c (random weights) no score (1 trial)." in text
    )


def test_a_baseline_without_any_of_several_encoders_has_a_row(several: dict[str, Any]) -> None:
    trials, probes = rows_of_several()
    board = leaderboard(trials, several, baselines=[*probes, Baseline("statistics + SVM", epoch(1, POOR))])
    assert pd.isna(board.set_index("trial_id").loc["SVM", "encoder"])


def test_a_narrow_terminal_tells_the_encoder_of_a_probe_among_the_settings(several: dict[str, Any]) -> None:
    trials, probes = rows_of_several()
    console = Console(file=io.StringIO(), width=80)
    console.print(board_table(leaderboard(trials, several, baselines=probes)))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above
    assert text.count("probe") == 2 and "probe a/x" not in text
    assert text.count("encoder=a/x") == 3
    console = Console(file=io.StringIO(), width=80)
    console.print(board_table(leaderboard([trials[0], trials[2]], several, baselines=probes)))
    assert "probe a/x" in console.file.getvalue()  # type: ignore[attr-defined]


EASY = [[2, 2], [2, 2], [2, 2]]
HARD = [[0, 0], [0, 0], [0, 0]]
MIXED = [[2, 2], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("hits", "baseline_hits", "expected"),
    [
        (EASY, HARD, r"t0012 (1.000) gains +1.000 over the linear probe (.000), 95 % over 3 speakers +1.000 to +1.000: "
                     r"a real gain on these speakers."),
        (HARD, EASY, r"t0012 (.000) loses −1.000 against the linear probe (1.000), 95 % over 3 speakers −1.000 to "
                     r"−1.000: a real loss on these speakers."),
        (FAIR, FAIR, r"t0012 (.500) gains +.000 over the linear probe (.500), 95 % over 3 speakers +.000 to +.000: "
                     r"not shown to differ."),
        (MIXED, FAIR, r"t0012 (.500) gains +.000 over the linear probe (.500), 95 % over 3 speakers −.500 to +.500: "
                      r"not shown to differ."),
    ],
)  # fmt: skip
def test_a_gain_is_told_with_its_interval_and_what_it_shows(
    hits: list[list[int]], baseline_hits: list[list[int]], expected: str
) -> None:
    best = trial(12, [epoch(1, HARD), epoch(2, hits)])
    assert gains(best, [probe(baseline_hits)], VAL_TOTALS) == [f"The best trial {expected}"]


def test_the_interval_of_a_gain_is_that_of_the_paired_difference() -> None:
    (sentence,) = gains(trial(0, [epoch(1, GOOD)]), [probe(POOR)], VAL_TOTALS)
    low, high = uar_difference_interval(GOOD, POOR, VAL_TOTALS)  # type: ignore[arg-type]  # lists serve as well
    assert f"speakers +{low:.3f} to +{high:.3f}:".replace("+0.", "+.") in sentence


def test_without_an_interval_none_is_claimed() -> None:
    one_speaker = gains(trial(0, [epoch(1, [[2, 2]])]), [probe([[1, 1]])], [[2, 2]])
    assert one_speaker[0].endswith("without an interval: one speaker says nothing of others.")
    unknown = gains(trial(0, [epoch(1, GOOD)]), [probe(FAIR, val_hits=None)], VAL_TOTALS)
    assert unknown[0].endswith("without an interval: the right clips of each speaker are not known.")


def test_nothing_is_said_where_there_is_nothing_to_compare() -> None:
    assert gains(None, [probe(FAIR)], VAL_TOTALS) == []
    assert gains(trial(0, []), [probe(FAIR)], VAL_TOTALS) == []
    assert gains(trial(0, [epoch(1, FAIR)]), [], VAL_TOTALS) == []


def test_a_gain_is_on_the_board_that_ends_the_search(board: pd.DataFrame, tmp_path: Path) -> None:
    write_leaderboard(tmp_path, board, encoder_config(), ending="trials", gains=["The best trial gains."])
    assert "- The best trial gains.\n" in (tmp_path / "leaderboard.md").read_text()
