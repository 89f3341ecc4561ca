"""The board: columns that other people's scripts read, ranks, status words, intervals, and what it says of itself."""

import os
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from search.leaderboard import (
    caption,
    epochs_table,
    equal_scores,
    extra_scores,
    leaderboard,
    split_settings,
    write_epochs,
    write_leaderboard,
)
from search.study import StudyTrial
from ser_models.trial import Baseline
from tests.search.boards import FAIR, GOOD, POOR, VAL_TOTALS, config_json, epoch, trial
from tests.search.knob_family import hits_of, score_of
from tests.search.knob_search import Sitting

PROMISED = (
    "rank", "trial_id", "family", "space", "status", "val_uar", "val_accuracy", "val_macro_f1", "epochs", "seconds",
    "seed", "split",
)  # fmt: skip


@pytest.fixture
def trials() -> list[StudyTrial]:
    """One of every kind, best score in the middle."""
    return [
        trial(0, [epoch(1, POOR), epoch(2, FAIR), epoch(3, POOR)], x=0.5, network="mlp", units=128),
        trial(1, [epoch(1, POOR)], "stopped", reason="rung 1: 0.333 < 0.500", x=0.25, network="cnn"),
        trial(2, [epoch(1, GOOD), epoch(2, FAIR)], None, x=0.125, network="cnn"),
        trial(3, [], "failed", reason="ValueError: too | wide", x=1e-05, network="cnn"),
        trial(4, [], None, x=0.75, network="cnn"),
    ]


def test_columns_begin_with_the_names_that_other_scripts_read(trials: list[StudyTrial]) -> None:
    assert tuple(leaderboard(trials, config_json()).columns[: len(PROMISED)]) == PROMISED


def test_every_parameter_has_a_column_of_its_own(trials: list[StudyTrial]) -> None:
    board = leaderboard(trials, config_json())
    assert [name for name in board.columns if name.startswith("config.")] == [
        "config.network", "config.units", "config.x",
    ]  # fmt: skip
    assert dict(zip(board["trial_id"], board["config.x"], strict=True)) == {
        "t0000": 0.5, "t0001": 0.25, "t0002": 0.125, "t0003": 1e-05, "t0004": 0.75,
    }  # fmt: skip


def test_best_score_ranks_first_and_a_failed_trial_never_does(trials: list[StudyTrial]) -> None:
    trials.append(trial(5, [epoch(1, [[2, 2], [2, 2], [2, 2]])], "failed", reason="x", x=0.5))
    board = leaderboard(trials, config_json())
    assert list(board["rank"]) == [1, 2, 3, 4, 5, 6]
    assert list(board["trial_id"]) == ["t0002", "t0000", "t0001", "t0004", "t0005", "t0003"]


def test_equal_scores_rank_in_the_order_of_proposals() -> None:
    board = leaderboard([trial(number, [epoch(1, FAIR)], x=number) for number in (2, 0, 1)], config_json())
    assert list(board["trial_id"]) == ["t0000", "t0001", "t0002"]


def test_status_is_one_of_the_four_words(trials: list[StudyTrial]) -> None:
    board = leaderboard(trials, config_json()).set_index("trial_id")
    assert dict(board["status"]) == {
        "t0000": "completed", "t0001": "stopped", "t0002": "running", "t0003": "failed", "t0004": "running",
    }  # fmt: skip


def test_nothing_is_running_once_the_search_ended(trials: list[StudyTrial]) -> None:
    board = leaderboard(trials, config_json(), ended=True).set_index("trial_id")
    assert (board.loc["t0002", "status"], board.loc["t0004", "status"]) == ("stopped", "stopped")


def test_metrics_are_those_of_the_best_epoch_and_epochs_counts_all(trials: list[StudyTrial]) -> None:
    row = leaderboard(trials, config_json()).set_index("trial_id").loc["t0000"]
    assert (row["val_uar"], row["val_accuracy"], row["val_macro_f1"]) == pytest.approx((0.5, 0.49, 0.48))
    assert (row["best_epoch"], row["epochs"], row["seconds"]) == (2, 3, 3.8)  # 3 × 1.25 s, to a tenth


def test_the_interval_lies_around_the_score_and_holds_only_what_speakers_allow(trials: list[StudyTrial]) -> None:
    row = leaderboard(trials, config_json()).set_index("trial_id").loc["t0002"]
    low, high = row["val_uar_low"], row["val_uar_high"]
    assert low < row["val_uar"] < high
    # the worst draw takes one of the weaker speakers three times, the best the one who was always right
    assert low >= 0.75 and high <= 1.0


def test_scores_of_the_board_are_what_scikit_learn_computes_from_the_same_hits() -> None:
    truth, answers = [], []
    for speaker, row in enumerate(GOOD):
        for emotion, hits in enumerate(row):
            total = VAL_TOTALS[speaker][emotion]
            truth += [emotion] * total
            answers += [emotion] * hits + [1 - emotion] * (total - hits)
    board = leaderboard([trial(0, [epoch(1, GOOD)], x=0.1)], config_json())
    assert board["val_uar"].iloc[0] == pytest.approx(balanced_accuracy_score(truth, answers))


def test_a_trial_without_an_epoch_has_no_numbers(trials: list[StudyTrial]) -> None:
    row = leaderboard(trials, config_json()).set_index("trial_id").loc["t0003"]
    assert row[["val_uar", "val_accuracy", "val_macro_f1", "val_uar_low", "val_uar_high"]].isna().all()
    assert (row["epochs"], row["seconds"], row["reason"]) == (0, 0, "ValueError: too | wide")


def test_each_row_says_where_it_comes_from(trials: list[StudyTrial]) -> None:
    row = leaderboard(trials, config_json()).iloc[0]
    assert (row["seed"], row["split"], row["space"], row["family"]) == (3, "tfds", "toy", "mfcc")
    assert (row["corpus"], row["commit"], row["search_id"]) == ("crema_d", "0123456789ab", "beef0123")
    assert row["manifest_hash"] == "fedcba987654"


def test_whole_numbers_stay_whole_where_other_rows_lack_the_parameter(trials: list[StudyTrial], tmp_path: Path) -> None:
    write_leaderboard(tmp_path, leaderboard(trials, config_json()), config_json(), ending=None)
    text = pd.read_csv(tmp_path / "leaderboard.csv", dtype=str, keep_default_na=False).set_index("trial_id")
    assert list(text["config.units"]) == ["", "128", "", "", ""]
    assert list(text["best_epoch"]) == ["1", "2", "1", "", ""]
    assert text.loc["t0000", "parameters"] == "1234"


def test_the_files_come_back_as_they_were_written(trials: list[StudyTrial], tmp_path: Path) -> None:
    board = leaderboard(trials, config_json())
    write_leaderboard(tmp_path, board, config_json(), ending=None)
    read = pd.read_csv(tmp_path / "leaderboard.csv")
    assert list(read.columns) == list(board.columns)
    assert read["val_uar"].to_numpy() == pytest.approx(board["val_uar"].to_numpy(), nan_ok=True)
    assert list(read["config.x"]) == list(board["config.x"])


def test_a_reader_never_sees_half_a_board(
    trials: list[StudyTrial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = leaderboard(trials, config_json())
    write_leaderboard(tmp_path, board, config_json(), ending=None)
    before = {name: (tmp_path / name).read_text() for name in ("leaderboard.csv", "leaderboard.md")}
    write_text = Path.write_text

    def cut_off(self: Path, text: str) -> int:
        write_text(self, text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut_off)
        with pytest.raises(OSError, match="No space left"):
            write_leaderboard(tmp_path, board.head(1), config_json(), ending="trials")
    assert {name: (tmp_path / name).read_text() for name in before} == before


def test_a_rewritten_board_is_a_new_file_and_not_an_old_one_opened_again(
    trials: list[StudyTrial], tmp_path: Path
) -> None:
    write_leaderboard(tmp_path, leaderboard(trials, config_json()), config_json(), ending=None)
    with (tmp_path / "leaderboard.csv").open() as reader:
        write_leaderboard(tmp_path, leaderboard(trials[:1], config_json()), config_json(), ending=None)
        assert len(reader.read().splitlines()) == 1 + len(trials)
    assert sorted(os.listdir(tmp_path)) == ["leaderboard.csv", "leaderboard.md"]


def test_the_markdown_says_what_its_scores_are(trials: list[StudyTrial], tmp_path: Path) -> None:
    write_leaderboard(tmp_path, leaderboard(trials, config_json()), config_json(), ending=None)
    text = (tmp_path / "leaderboard.md").read_text()
    assert (
        "Validation, best of 3, optimistic: the same 3 actors chose epoch and trial; no row was judged on test." in text
    )
    assert "Intervals: 95 %, bootstrap over the 3 validation speakers." in text
    assert "5 trials: 1 completed, 1 stopped, 1 failed, 2 running. The search is not finished." in text
    assert "Seed 3, commit 0123456789ab, manifest fedcba987654, python 3.11.0, ray 2.60.0." in text
    assert "`python search/run.py --space toy`" in text


def test_the_markdown_table_has_a_row_per_trial_and_as_many_cells_in_each(
    trials: list[StudyTrial], tmp_path: Path
) -> None:
    write_leaderboard(tmp_path, leaderboard(trials, config_json()), config_json(), ending="trials")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "Ended by: trials." in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(trials)
    assert {line.count("|") for line in table} == {table[0].count("|")}
    failed = next(line for line in table if "t0003" in line)
    assert "failed (ValueError: too / wide)" in failed  # a bar would end the cell


def table_of(folder: Path) -> list[list[str]]:
    """The cells of the markdown's table, header and its line first."""
    lines = (folder / "leaderboard.md").read_text().splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]


EXTRAS = {
    "val_roc_auc": "ROC-AUC",
    "val_reconstruction": "reconstruction",
}  # columns of some boards, as people read them
SHARES = {"val_roc_auc": 0.25, "val_reconstruction": 0.125, "train_reconstruction": 0.5}


def with_extras(trials: list[StudyTrial], *names: str) -> list[StudyTrial]:
    """The extras in both epochs of the best trial, by each one's share of the epoch's number, and in no other."""
    for report in trials[2].epochs:
        report.update({name: report["epoch"] * SHARES[name] for name in names})
    return trials


@pytest.mark.parametrize("names", [(), ("val_roc_auc",), ("val_reconstruction",), tuple(EXTRAS), tuple(EXTRAS)[::-1]])
def test_a_board_has_the_columns_of_the_extras_that_some_row_has(
    trials: list[StudyTrial], names: tuple[str, ...], tmp_path: Path
) -> None:
    board = leaderboard(with_extras(trials, *names), config_json())
    there = [name for name in EXTRAS if name in names]
    assert tuple(board.columns[: len(PROMISED)]) == PROMISED
    assert [name for name in board.columns if name in EXTRAS] == there == extra_scores(board)
    for name in there:
        assert board[name].dtype == float
        assert dict(zip(board["trial_id"], board[name].fillna(-1), strict=True)) == {
            "t0000": -1, "t0001": -1, "t0002": SHARES[name], "t0003": -1, "t0004": -1,
        }  # fmt: skip  # of the first epoch, which was the best

    write_leaderboard(tmp_path, board, config_json(), ending=None)
    assert list(pd.read_csv(tmp_path / "leaderboard.csv").columns) == list(board.columns)
    header, line, *rows = table_of(tmp_path)
    assert header == [
        "rank", "trial", "status", "val UAR", "95 % over speakers", "accuracy", "macro-F1",
        *(EXTRAS[name] for name in there), "epochs", "seconds", "configuration",
    ]  # fmt: skip
    assert len(rows) == len(trials)
    assert {len(cells) for cells in (line, *rows)} == {len(header)}
    for cells in rows:
        named = dict(zip(header, cells, strict=True))
        expected = [f"{SHARES[name]:.3f}" if named["trial"] == "t0002" else "–" for name in there]
        assert [named[EXTRAS[name]] for name in there] == expected
        assert named["epochs"] == {"t0000": "3", "t0002": "2", "t0001": "1"}.get(named["trial"], "0")
        assert line[header.index("epochs")] == line[header.index("val UAR")] == "---:"


def test_other_extras_are_no_column_of_the_board_and_all_are_in_the_table_of_epochs(trials: list[StudyTrial]) -> None:
    with_extras(trials, "train_reconstruction", "val_roc_auc")
    assert "train_reconstruction" not in leaderboard(trials, config_json())
    table = epochs_table(trials).set_index(["trial_id", "epoch"])
    for name in ("train_reconstruction", "val_roc_auc"):
        assert table[name].dropna().to_dict() == {("t0002", 1): SHARES[name], ("t0002", 2): 2 * SHARES[name]}


def test_a_baselines_extra_is_a_column_of_the_board_too(trials: list[StudyTrial], tmp_path: Path) -> None:
    probe = Baseline("linear probe", {**epoch(1, FAIR), "val_roc_auc": 0.625})
    board = leaderboard(trials, config_json(), baselines=[probe])
    assert board.set_index("trial_id")["val_roc_auc"].dropna().to_dict() == {"probe": 0.625}
    write_leaderboard(tmp_path, board, config_json(), ending=None)
    header, _, *rows = table_of(tmp_path)
    assert {row[1]: row[header.index("ROC-AUC")] for row in rows}["probe"] == "0.625"


def test_notes_on_the_data_come_first_wherever_the_board_is_shown(trials: list[StudyTrial], tmp_path: Path) -> None:
    notes = [
        "generated speech: no claim of accuracy may rest on these scores",
        "split random is leaky: 4 of 4 actors are on both sides",
    ]
    config = config_json(notes=notes, generated=True, leaky=True)
    board = leaderboard(trials, config)
    assert caption(board, config)[:2] == [f"G{notes[0][1:]}.", f"S{notes[1][1:]}."]
    write_leaderboard(tmp_path, board, config, ending=None)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "- Generated speech: no claim of accuracy" in text
    assert "- Split random is leaky" in text


def test_rows_within_each_others_intervals_are_not_called_different() -> None:
    near = leaderboard([trial(0, [epoch(1, FAIR)], x=0.1), trial(1, [epoch(1, GOOD)], x=0.2)], config_json())
    assert "Rows whose scores differ by less than the intervals are wide are not shown to differ." in caption(
        near.assign(val_uar_low=0.1), config_json()
    )


def test_a_board_before_the_first_trial_can_be_written(tmp_path: Path) -> None:
    write_leaderboard(tmp_path, leaderboard([], config_json()), config_json(), ending=None)
    write_epochs(tmp_path, [])
    assert tuple(pd.read_csv(tmp_path / "leaderboard.csv").columns[: len(PROMISED)]) == PROMISED
    assert "best of 0" in (tmp_path / "leaderboard.md").read_text()


def test_one_validation_speaker_gives_a_score_without_an_interval() -> None:
    config = config_json(val_totals=[[6, 6]], actors={"train": 4, "validation": 1, "test": 0})
    row = leaderboard([trial(0, [epoch(1, [[3, 3]])], x=0.1)], config).iloc[0]
    assert row["val_uar"] == 0.5
    assert pd.isna(row["val_uar_low"]) and pd.isna(row["val_uar_high"])


def test_settings_that_all_rows_share_are_told_from_those_that_differ(trials: list[StudyTrial]) -> None:
    shared, varying = split_settings(leaderboard(trials[1:], config_json()))
    assert (shared, varying) == ({"network": "cnn"}, ["x"])


def test_different_configurations_with_equal_losses_and_scores_are_reported() -> None:
    epochs = [epoch(1, FAIR), epoch(2, GOOD)]
    same = [trial(0, epochs, x=0.1, idle=1), trial(1, [epoch(1, POOR)], x=0.2), trial(2, epochs, x=0.1, idle=2)]
    assert equal_scores(same) == [("t0000", "t0002")]


def test_equal_scores_alone_or_equal_configurations_are_no_ground_for_a_warning() -> None:
    other_loss = [epoch(1, FAIR), epoch(2, GOOD, train_loss=0.75)]
    assert equal_scores([trial(0, [epoch(1, FAIR), epoch(2, GOOD)], x=0.1), trial(1, other_loss, x=0.2)]) == []
    assert equal_scores([trial(number, [epoch(1, FAIR)], x=0.1) for number in range(2)]) == []
    assert equal_scores([trial(0, [], "failed", x=0.1), trial(1, [], "failed", x=0.2)]) == []


def test_the_table_of_epochs_has_every_report_of_every_trial(trials: list[StudyTrial], tmp_path: Path) -> None:
    write_epochs(tmp_path, trials)
    table = pd.read_parquet(tmp_path / "epochs.parquet")
    assert list(zip(table["trial_id"], table["epoch"], strict=True)) == [
        ("t0000", 1), ("t0000", 2), ("t0000", 3), ("t0001", 1), ("t0002", 1), ("t0002", 2),
    ]  # fmt: skip
    assert table["val_uar"].tolist() == pytest.approx([4 / 12, 0.5, 4 / 12, 4 / 12, 10 / 12, 0.5])
    assert {"train_loss", "val_loss", "val_accuracy", "val_macro_f1", "seconds", "clips_per_second"} <= set(table)
    assert "val_hits" not in table
    pd.testing.assert_frame_equal(table, epochs_table(trials))


def test_a_finished_search_leaves_a_board_that_agrees_with_its_trials(finished_search: Sitting) -> None:
    board = pd.read_csv(finished_search.folder / "leaderboard.csv").set_index("trial_id")
    assert len(board) == len(finished_search.trials) == 4
    for number, found in finished_search.trials.items():
        row = board.loc[f"t{number:04d}"]
        assert row["val_uar"] == pytest.approx(max(found.scores)) == pytest.approx(score_of(row["config.x"], 2))
        assert (row["best_epoch"], row["epochs"], row["status"]) == (2, 3, "completed")
        assert row["val_uar_low"] <= row["val_uar"] <= row["val_uar_high"]
        assert found.epochs[1]["val_hits"] == hits_of(row["val_uar"])
    assert board["val_uar"].is_monotonic_decreasing
    assert set(board["manifest_hash"]) == {finished_search.config["data"]["manifest_hash"][:12]}


def test_a_finished_search_leaves_every_epoch_in_parquet(finished_search: Sitting) -> None:
    table = pd.read_parquet(finished_search.folder / "epochs.parquet")
    assert table.groupby("trial_id")["epoch"].apply(list).to_dict() == {
        f"t{number:04d}": [1, 2, 3] for number in range(4)
    }
