"""The board that ends a search: ``leaderboard.csv`` and ``.md``, one row per trial, with what it takes to trust it."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.result_keys import EPOCH, HITS, NUM_PARAMETERS, SCORE
from search.run_folder import write_atomically
from search.study import StudyTrial
from ser_models.metrics import uar_interval

CSV_FILE = "leaderboard.csv"
MARKDOWN_FILE = "leaderboard.md"
#: Other people's scripts read these names.
COLUMNS = (
    "rank", "trial_id", "family", "space", "status", SCORE, "val_accuracy", "val_macro_f1", "epochs", "seconds",
    "seed", "split",
)  # fmt: skip
_SCORES = (SCORE, "val_accuracy", "val_macro_f1", "val_uar_low", "val_uar_high", "seconds")
_MARKDOWN_ROWS = 50


def status_of(trial: StudyTrial, *, ended: bool) -> str:
    """``completed``, ``stopped``, ``failed`` or ``running``.

    Args:
        trial: one of the study's
        ended: whether the search ended for good (its budget is used up), so that nothing is running any more
    """
    if trial.outcome is not None:
        return trial.outcome
    return "stopped" if ended else "running"


def leaderboard(trials: Iterable[StudyTrial], config: Mapping[str, Any], *, ended: bool = False) -> pd.DataFrame:
    """One row per trial, best validation UAR first; failed trials last, since none of them can win.

    Args:
        trials: of one study
        config: the search's ``config.json``
        ended: whether the search ended for good

    Returns:
        the columns of :data:`COLUMNS`, then interval, best epoch, provenance, and ``config.NAME`` per parameter;
        metrics are those of the trial's best epoch
    """
    rows = [_row(trial, config, ended) for trial in sorted(trials, key=_place)]
    parameters = sorted({name for row in rows for name in row if name.startswith("config.")})
    fixed = [*COLUMNS, "val_uar_low", "val_uar_high", "best_epoch", "parameters", "reason"]
    fixed += ["origin", "corpus", "manifest_hash", "commit", "search_id"]
    # objects first: a parameter that some rows lack would turn from 128 into 128.0
    board = pd.DataFrame(rows, columns=[*fixed, *parameters], dtype=object)
    board[fixed] = board[fixed].infer_objects()
    board = board.astype({name: float for name in _SCORES} | {name: "Int64" for name in ("best_epoch", "parameters")})
    board["rank"] = range(1, len(board) + 1)
    return board


def _place(trial: StudyTrial) -> tuple[bool, float, int]:
    return trial.outcome == "failed", -trial.best_score, trial.number


def _row(trial: StudyTrial, config: Mapping[str, Any], ended: bool) -> dict[str, Any]:
    data, arguments = config["data"], config["arguments"]
    best = trial.best_epoch or {}
    low, high = _interval(best.get(HITS), data["val_totals"])
    return {
        "trial_id": trial.trial_id,
        "family": config["plan"]["family"],
        "space": arguments["space"],
        "status": status_of(trial, ended=ended),
        SCORE: best.get(SCORE, math.nan),
        "val_accuracy": best.get("val_accuracy", math.nan),
        "val_macro_f1": best.get("val_macro_f1", math.nan),
        "epochs": len(trial.epochs),
        "seconds": round(trial.seconds, 1),
        "seed": arguments["seed"],
        "split": data["split"],
        "val_uar_low": low,
        "val_uar_high": high,
        "best_epoch": best.get(EPOCH),
        "parameters": best.get(NUM_PARAMETERS),
        "reason": trial.reason,
        "origin": trial.origin,
        "corpus": data["corpus"],
        "manifest_hash": data["manifest_hash"][:12],
        "commit": config["commit"],
        "search_id": config["search_id"],
        **{f"config.{name}": value for name, value in trial.config.items()},
    }


def _interval(hits: list[list[int]] | None, totals: list[list[int]]) -> tuple[float, float]:
    if not hits:
        return math.nan, math.nan
    return _cached_interval(tuple(map(tuple, hits)), tuple(map(tuple, totals)))


@cache  # the board is rewritten after every trial, a trial's best epoch stays
def _cached_interval(hits: tuple[tuple[int, ...], ...], totals: tuple[tuple[int, ...], ...]) -> tuple[float, float]:
    return uar_interval(np.array(hits), np.array(totals))


def write_leaderboard(folder: Path, board: pd.DataFrame, config: Mapping[str, Any], *, ending: str | None) -> None:
    """Write ``leaderboard.csv`` and ``.md``, each in one step.

    Args:
        folder: the search's
        board: from :func:`leaderboard`
        config: the search's ``config.json``
        ending: what ended the search, None while it runs
    """
    write_atomically(folder / CSV_FILE, board.to_csv(index=False))
    write_atomically(folder / MARKDOWN_FILE, _markdown(board, config, ending))


def caption(board: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before the first row, one sentence each."""
    data = config["data"]
    scored = int(board[SCORE].notna().sum())
    actors = data["actors"]["validation"]
    lines = [
        f"Validation, best of {scored}, optimistic: the same {actors} actors chose epoch and trial; no row was judged "
        "on test.",
        f"Intervals: 95 %, bootstrap over the {actors} validation speakers.",
    ]
    if scored and board["val_uar_low"].iloc[0] < board[SCORE].iloc[: min(scored, 2)].min() and scored > 1:
        lines.append("Rows whose scores differ by less than the intervals are wide are not shown to differ.")
    return [*(f"{note[0].upper()}{note[1:]}." for note in data["notes"]), *lines]


def _markdown(board: pd.DataFrame, config: Mapping[str, Any], ending: str | None) -> str:
    data, arguments = config["data"], config["arguments"]
    counts = board["status"].value_counts()
    told = ", ".join(
        f"{counts[name]} {name}" for name in ("completed", "stopped", "failed", "running") if name in counts
    )
    parts = [
        f"# Leaderboard: {arguments['space']} on {data['corpus']}, split {data['split']}",
        "",
        *(f"- {line}" for line in caption(board, config)),
        f"- {len(board)} trials: {told}. " + (f"Ended by: {ending}." if ending else "The search is not finished."),
        f"- Seed {arguments['seed']}, commit {config['commit']}, manifest {data['manifest_hash'][:12]}, "
        + ", ".join(f"{name} {version}" for name, version in config["versions"].items())
        + ".",
        f"- `{config['command']}`",
        "",
        "| rank | trial | status | val UAR | 95 % over speakers | accuracy | macro-F1 | epochs | seconds "
        "| configuration |",
        "|---:|---|---|---:|---|---:|---:|---:|---:|---|",
    ]
    shared, varying = split_settings(board)
    parts[-2:-2] = [f"All trials: {_settings(shared)}.", ""] if shared else []
    for row in board.head(_MARKDOWN_ROWS).to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        chosen = {name: named[f"config.{name}"] for name in varying if not _is_missing(named[f"config.{name}"])}
        parts.append(_markdown_row(named, _settings(chosen)))
    if len(board) > _MARKDOWN_ROWS:
        parts.append(f"\n{len(board) - _MARKDOWN_ROWS} more rows: {CSV_FILE}")
    return "\n".join(parts) + "\n"


def split_settings(board: pd.DataFrame) -> tuple[dict[str, Any], list[str]]:
    """Parameters that all rows share, with their value, and the names of those that differ between rows."""
    shared: dict[str, Any] = {}
    varying: list[str] = []
    for column in board.columns:
        name = str(column).removeprefix("config.")
        if name == column:
            continue
        if len(board) > 1 and board[column].nunique(dropna=False) == 1:
            shared[name] = board[column].iloc[0]
        else:
            varying.append(name)
    return shared, varying


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _markdown_row(row: Mapping[str, Any], settings: str) -> str:
    metrics = [_short_score(row[name]) for name in (SCORE, "val_accuracy", "val_macro_f1")]
    has_interval = not _is_missing(row["val_uar_low"])  # one speaker alone gives none
    interval = f"{row['val_uar_low']:.3f}–{row['val_uar_high']:.3f}" if has_interval else "–"
    status = row["status"] + (f" ({row['reason']})" if row["status"] == "failed" else "")
    cells = [row["rank"], row["trial_id"], status, metrics[0], interval, metrics[1], metrics[2]]
    cells += [row["epochs"], f"{row['seconds']:.0f}", settings]
    return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _short_score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def epochs_table(trials: Iterable[StudyTrial]) -> pd.DataFrame:
    """Every reported epoch of every trial, for ``epochs.parquet``."""
    rows = [
        {"trial_id": trial.trial_id, "number": trial.number, **{k: v for k, v in report.items() if k != HITS}}
        for trial in trials
        for report in trial.epochs
    ]
    return pd.DataFrame(rows)


def write_epochs(folder: Path, trials: Iterable[StudyTrial]) -> None:
    """Write ``epochs.parquet`` in one step."""
    path = folder / "epochs.parquet"
    unfinished = path.with_name(".epochs.parquet.tmp")
    epochs_table(trials).to_parquet(unfinished, index=False)
    unfinished.replace(path)


def equal_scores(trials: Iterable[StudyTrial]) -> list[tuple[str, str]]:
    """Pairs of trials with different configurations whose scores agree to the last digit at every epoch.

    A searched parameter that changes nothing shows itself so. Epochs, train loss included, must agree, since two
    networks may well get equally many clips right.
    """
    seen: dict[tuple[Any, ...], StudyTrial] = {}
    pairs = []
    for trial in trials:
        if not trial.epochs:
            continue
        key = tuple((report["train_loss"], report["val_loss"], report[SCORE]) for report in trial.epochs)
        first = seen.setdefault(key, trial)
        if first is not trial and first.config != trial.config:
            pairs.append((first.trial_id, trial.trial_id))
    return pairs
