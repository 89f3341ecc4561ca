"""The finalists' board, ``finalists.csv`` and ``.md``: what test speakers say, and whether the winner really wins."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from search.finalists.judging import JudgedRow
from search.finalists.ledger import Look
from search.finalists.rounds import Round
from search.gains import Compared, gain
from search.leaderboard import short_score
from search.parameters import short
from search.run_folder import write_atomically
from ser_models.metrics import uar_interval

CSV_FILE = "finalists.csv"
MARKDOWN_FILE = "finalists.md"
_SPEAKERS = "test speakers"


def finalist_board(rows: Sequence[JudgedRow], totals: Sequence[Sequence[int]]) -> pd.DataFrame:
    """One row per finalist, by mean validation UAR, then the ensemble and the classical baseline.

    Args:
        rows: judged, in the order of the board
        totals: test clips by speaker and emotion

    Returns:
        ``rank, name, role, trainings``; ``val_uar`` and ``val_uar_sd`` over seeds; ``test_uar`` with its interval over
        speakers (``test_uar_low``, ``test_uar_high``) and its deviation over seeds (``test_uar_sd``);
        ``test_accuracy``, ``test_macro_f1`` and, of two emotions, ``test_roc_auc``; ``config.NAME`` per parameter
    """
    return pd.DataFrame([{"rank": rank, **_row(row, totals)} for rank, row in enumerate(rows, start=1)])


def _row(row: JudgedRow, totals: Sequence[Sequence[int]]) -> dict[str, Any]:
    low, high = uar_interval(_mean_hits(row), np.array(totals))
    auc = {"test_roc_auc": _mean(row, "roc_auc")} if "roc_auc" in row.scores[0] else {}
    return {
        "name": row.name,
        "role": row.role,
        "trainings": row.trainings,
        "val_uar": float(np.mean(row.val_uars)) if row.val_uars else math.nan,
        "val_uar_sd": _deviation(row.val_uars),
        "test_uar": _mean(row, "uar"),
        "test_uar_low": low,
        "test_uar_high": high,
        "test_uar_sd": _deviation([scores["uar"] for scores in row.scores]),
        "test_accuracy": _mean(row, "accuracy"),
        "test_macro_f1": _mean(row, "macro_f1"),
        **auc,
        **{f"config.{name}": value for name, value in row.config.items()},
    }


def _mean(row: JudgedRow, name: str) -> float:
    return float(np.mean([scores[name] for scores in row.scores]))


def _mean_hits(row: JudgedRow) -> Any:
    """Right clips by speaker and emotion, the mean over seeds: its UAR is the mean of their UARs."""
    return np.mean([scores["hits"] for scores in row.scores], axis=0)


def _deviation(values: Sequence[float]) -> float:
    """The sample's; NaN of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def verdicts(rows: Sequence[JudgedRow], totals: Sequence[Sequence[int]]) -> list[str]:
    """Whether the winner, the best by validation, beats the others on test, a sentence for each."""
    finalists = [row for row in rows if row.role == "finalist"]
    if not finalists:
        return []
    winner = _compared(finalists[0], f"The winner {finalists[0].name}")
    others = [_compared(row, f"the runner-up {row.name}") for row in finalists[1:2]]
    others += [
        _compared(row, f"{'its' if row.space else 'the'} space's default {row.name}")
        for row in rows
        if row.is_default and row.space == finalists[0].space and row is not finalists[0]
    ]
    others += [
        _compared(row, f"the classical baseline (statistics + {row.name})") for row in rows if row.role == "classical"
    ]
    sentences = [gain(winner, other, totals, speakers=_SPEAKERS) for other in others]
    if finalists[0].is_default:
        found = "the space's default configuration: the search found no better one"
        if finalists[0].space:
            found = "its space's default configuration: the search found no better one, in that space or another"
        sentences.insert(0, f"The winner {finalists[0].name} is {found}.")
    ensembles = [
        _compared(row, "The average of the finalists' probabilities") for row in rows if row.role == "ensemble"
    ]
    against = _compared(finalists[0], f"the winner {finalists[0].name}")
    return sentences + [gain(ensemble, against, totals, speakers=_SPEAKERS) for ensemble in ensembles]


def _compared(row: JudgedRow, name: str) -> Compared:
    return Compared(name, _mean(row, "uar"), _mean_hits(row))


def caption(
    rows: Sequence[JudgedRow], totals: Sequence[Sequence[int]], the_round: Round, look: Look, earlier: Sequence[Look],
    searched_split: str,
) -> list[str]:  # fmt: skip
    """What a reader has to know before the first row, one sentence each.

    Args:
        rows: judged
        totals: test clips by speaker and emotion
        the_round: whose they are
        look: this one
        earlier: looks that others took at these test speakers, and earlier ones of this search
        searched_split: the split that the search ran on
    """
    clips = int(np.sum(totals))
    lines = [
        f"Judged once on {clips} clips of {len(totals)} {_SPEAKERS} ({', '.join(the_round.splits)}), {look.at}; the "
        "order is by validation, and test had no part in any choice.",
        f"Scores are means over seeds ({the_round.seeds} a candidate); intervals: 95 %, bootstrap over the speakers.",
    ]
    if len(the_round.splits) > 1:
        lines.append(
            f"Each fold's networks were judged on its own test speakers. Configurations were chosen on "
            f"{searched_split}, whose validation speakers are test speakers of another fold: slightly optimistic."
        )
    own = [other for other in earlier if other.search_id == look.search_id]
    foreign = [other for other in earlier if other.search_id != look.search_id]
    if own:
        lines.append(
            f"FORCED: this search had looked at these test speakers before ({', '.join(other.at for other in own)}); "
            "what was changed since then may have been chosen by them."
        )
    if foreign:
        lines.append(
            f"{len(foreign)} earlier looks of other searches at these test speakers "
            f"({', '.join(f'{other.search_id}, {other.at}' for other in foreign[-3:])}): small gains over those may be "
            "chance."
        )
    expected = the_round.seeds * len(the_round.splits)
    short = [row for row in rows if row.role in ("finalist", "default") and row.trainings < expected]
    lines += [f"{row.name}: {expected - row.trainings} of its {expected} trainings do not count, since one failed."
              for row in short]  # fmt: skip
    return lines


def write_finalists(folder: Path, board: pd.DataFrame, lines: Sequence[str], config: Mapping[str, Any]) -> None:
    """Write ``finalists.csv`` and ``.md``, each in one step.

    Args:
        folder: the search's
        board: from :func:`finalist_board`
        lines: caption and verdicts
        config: the search's ``config.json``
    """
    write_atomically(folder / CSV_FILE, board.to_csv(index=False))
    data, arguments = config["data"], config["arguments"]
    titles = ("rank", "row", "role", "trainings", "val UAR", "test UAR", "95 % over speakers", "sd over seeds",
              "accuracy", "macro-F1")  # fmt: skip
    varying = _varying(board)
    parts = [
        f"# Finalists: {arguments['space']} on {data['corpus']}, judged on test",
        "",
        *(f"- {line}" for line in lines),
        f"- Seed {arguments['seed']}, commit {config['commit']}, manifest {data['manifest_hash'][:12]}.",
        "",
        "| " + " | ".join([*titles, *(["ROC-AUC"] if "test_roc_auc" in board else []), "settings that differ"]) + " |",
        "|---:|---|---|---:|---:|---:|---|---:|---:|---:|" + ("---:|" if "test_roc_auc" in board else "") + "---|",
        *(f"| {' | '.join(_cells(row, varying))} |" for row in board.to_dict("records")),
    ]
    write_atomically(folder / MARKDOWN_FILE, "\n".join(parts) + "\n")


def finalist_table(board: pd.DataFrame) -> Table:
    """The board for the terminal."""
    table = Table(title="finalists, judged on test", title_justify="left", box=SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True, padding=(0, 0))  # fmt: skip
    titles = ("rank", "row", "role", "trai-\nnings", "val UAR", "test UAR", "95 % over\nspeakers", "sd", "accu-\nracy",
              "macro-\nF1")  # fmt: skip
    for title in titles:
        left = title in ("row", "role", "95 % over\nspeakers")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    if "test_roc_auc" in board:
        table.add_column("ROC-\nAUC", justify="right")
    table.add_column("settings that differ", overflow="fold")
    varying = _varying(board)
    for row in board.to_dict("records"):
        table.add_row(*_cells(row, varying))
    return table


def _varying(board: pd.DataFrame) -> list[str]:
    candidates = board[board["role"].isin(("finalist", "default"))]
    columns = [str(column) for column in board.columns if str(column).startswith("config.")]
    return [column for column in columns if len(candidates) < 2 or candidates[column].nunique(dropna=False) > 1]


def _cells(row: Mapping[Any, Any], varying: Sequence[str]) -> list[str]:
    chosen = {name.removeprefix("config."): row[name] for name in varying if pd.notna(row[name])}
    told = ", ".join(f"{name}={short(value)}" for name, value in chosen.items())
    scores = ["test_accuracy", "test_macro_f1", *(["test_roc_auc"] if "test_roc_auc" in row else [])]
    return [
        str(row["rank"]),
        row["name"],
        row["role"],
        str(row["trainings"]),
        short_score(row["val_uar"]),
        short_score(row["test_uar"]),
        f"{row['test_uar_low']:.3f}–{row['test_uar_high']:.3f}" if pd.notna(row["test_uar_low"]) else "–",
        short_score(row["test_uar_sd"]),
        *(short_score(row[name]) for name in scores),
        told,
    ]
