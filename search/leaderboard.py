"""The board that ends a search: ``leaderboard.csv`` and ``.md``, one row per trial, with what it takes to trust it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.baselines import BASELINE, row_name
from search.encoders import ENCODER, encoder_of, encoders_of
from search.parameters import short
from search.result_keys import (
    EPOCH,
    HITS,
    NUM_PARAMETERS,
    PRECISION,
    RECONSTRUCTION,
    ROC_AUC,
    SCORE,
    TRAINED_PARAMETERS,
)
from search.run_folder import write_atomically
from search.study import StudyTrial
from ser_models.metrics import uar_interval
from ser_models.trial import COST, Baseline

CSV_FILE = "leaderboard.csv"
MARKDOWN_FILE = "leaderboard.md"
#: Other people's scripts read these names.
COLUMNS = (
    "rank", "trial_id", "family", "space", "status", SCORE, "val_accuracy", "val_macro_f1", "epochs", "seconds",
    "seed", "split",
)  # fmt: skip
_SCORES = (SCORE, "val_accuracy", "val_macro_f1", "val_uar_low", "val_uar_high", "seconds")
_EXTRAS = (ROC_AUC, RECONSTRUCTION)  # columns of boards that have them
_FACTS = (TRAINED_PARAMETERS, COST)
_COUNTS = ("best_epoch", "parameters", TRAINED_PARAMETERS)
_MARKDOWN_ROWS = 50
EXTRA_TITLES = {ROC_AUC: "ROC-AUC", RECONSTRUCTION: "reconstruction"}


def status_of(trial: StudyTrial, *, ended: bool) -> str:
    """``completed``, ``stopped``, ``failed`` or ``running``.

    Args:
        trial: one of the study's
        ended: whether the search ended for good (its budget is used up), so that nothing is running any more
    """
    if trial.outcome is not None:
        return trial.outcome
    return "stopped" if ended else "running"


def leaderboard(
    trials: Iterable[StudyTrial],
    config: Mapping[str, Any],
    *,
    baselines: Iterable[Baseline] = (),
    ended: bool = False,
) -> pd.DataFrame:
    """One row per trial and baseline, best validation UAR first; failed trials last, since none of them can win.

    Args:
        trials: of one study
        config: the search's ``config.json``
        baselines: what the family reaches without a search; among equals they stand last
        ended: whether the search ended for good

    Returns:
        the columns of :data:`COLUMNS`, then interval, best epoch, provenance, encoder, and ``config.NAME`` per
        parameter; metrics are those of the trial's best epoch
    """
    placed = [(_place(trial), _row(trial, config, ended)) for trial in trials]
    placed += [((False, -baseline.report[SCORE], math.inf), _baseline_row(baseline, config)) for baseline in baselines]
    rows = [row for _, row in sorted(placed, key=lambda pair: pair[0])]
    parameters = sorted({name for row in rows for name in row if name.startswith("config.")})
    fixed = [*COLUMNS, "val_uar_low", "val_uar_high", "best_epoch", "parameters", "reason"]
    extras = [name for name in _EXTRAS if any(name in row for row in rows)]
    fixed += [
        *extras,
        "origin",
        "corpus",
        "manifest_hash",
        "commit",
        "search_id",
        "encoder",
        PRECISION,
        *_FACTS,
    ]
    # objects first: a parameter that some rows lack would turn from 128 into 128.0
    board = pd.DataFrame(rows, columns=[*fixed, *parameters], dtype=object)
    board[fixed] = board[fixed].infer_objects()
    board = board.astype({name: float for name in (*_SCORES, *extras, COST)} | {name: "Int64" for name in _COUNTS})
    board["rank"] = range(1, len(board) + 1)
    return board


def _place(trial: StudyTrial) -> tuple[bool, float, float]:
    return trial.outcome == "failed", -trial.best_score, trial.number


def _row(trial: StudyTrial, config: Mapping[str, Any], ended: bool) -> dict[str, Any]:
    best = trial.best_epoch or {}
    return {
        **_provenance(config, encoder=trial.config.get(ENCODER)),
        **_scores(best, config),
        "trial_id": trial.trial_id,
        "status": status_of(trial, ended=ended),
        "epochs": len(trial.epochs),
        "seconds": round(trial.seconds, 1),
        "best_epoch": best.get(EPOCH),
        "reason": trial.reason,
        "origin": trial.origin,
        **{f"config.{name}": value for name, value in trial.config.items()},
    }


def _baseline_row(baseline: Baseline, config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_provenance(config, encoder=baseline.encoder),
        **_scores(baseline.report, config),
        "trial_id": row_name(baseline),
        "status": "completed",
        "epochs": 0,
        "seconds": round(baseline.report["seconds"], 1),
        "reason": "",
        "origin": BASELINE,
        **({f"config.{ENCODER}": baseline.encoder} if baseline.encoder else {}),
    }


def _scores(report: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    low, high = _interval(report.get(HITS), config["data"]["val_totals"])
    return {
        **{name: report.get(name, math.nan) for name in (SCORE, "val_accuracy", "val_macro_f1")},
        "val_uar_low": low,
        "val_uar_high": high,
        **{name: report[name] for name in _EXTRAS if name in report},
        "parameters": report.get(NUM_PARAMETERS),
        PRECISION: report.get(PRECISION),
        **{name: report.get(name) for name in _FACTS},
    }


def _provenance(config: Mapping[str, Any], *, encoder: object) -> dict[str, Any]:
    plan, data, arguments = config["plan"], config["data"], config["arguments"]
    own = encoder_of(plan, encoder)
    return {
        "family": plan["family"],
        "space": arguments["space"],
        "seed": arguments["seed"],
        "split": data["split"],
        "corpus": data["corpus"],
        "manifest_hash": data["manifest_hash"][:12],
        "commit": config["commit"],
        "search_id": config["search_id"],
        "encoder": own["label"] if own is not None else None,
    }


def _interval(hits: list[list[int]] | None, totals: list[list[int]]) -> tuple[float, float]:
    if not hits:
        return math.nan, math.nan
    return _cached_interval(tuple(map(tuple, hits)), tuple(map(tuple, totals)))


@cache  # the board is rewritten after every trial, a trial's best epoch stays
def _cached_interval(hits: tuple[tuple[int, ...], ...], totals: tuple[tuple[int, ...], ...]) -> tuple[float, float]:
    return uar_interval(np.array(hits), np.array(totals))


def write_leaderboard(
    folder: Path, board: pd.DataFrame, config: Mapping[str, Any], *, ending: str | None, gains: Sequence[str] = ()
) -> None:
    """Write ``leaderboard.csv`` and ``.md``, each in one step.

    Args:
        folder: the search's
        board: from :func:`leaderboard`
        config: the search's ``config.json``
        ending: what ended the search, None while it runs
        gains: what the best trial gains over each baseline, in a sentence each
    """
    write_atomically(folder / CSV_FILE, board.to_csv(index=False))
    write_atomically(folder / MARKDOWN_FILE, _markdown(board, config, ending, gains))


def caption(board: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before the first row, one sentence each."""
    data = config["data"]
    scored = int(board[SCORE].notna().sum())
    num_trials = int(_without_baselines(board)[SCORE].notna().sum())
    actors = data["actors"]["validation"]
    on_test = "no row was judged on test"
    if "judged" in config:
        on_test = "what the finalists are worth on test is in finalists.md"
    lines = [
        *_random_weights(config),
        *_best_of_encoders(board, config),
        f"Validation, best of {num_trials}, optimistic: the same {actors} actors chose epoch and trial; {on_test}.",
        f"Intervals: 95 %, bootstrap over the {actors} validation speakers.",
    ]
    if scored and board["val_uar_low"].iloc[0] < board[SCORE].iloc[: min(scored, 2)].min() and scored > 1:
        lines.append("Rows whose scores differ by less than the intervals are wide are not shown to differ.")
    return [*(f"{note[0].upper()}{note[1:]}." for note in data["notes"]), *lines]


def _random_weights(config: Mapping[str, Any]) -> list[str]:
    encoders = encoders_of(config["plan"])
    whose = "here" if len(encoders) == 1 else "of it"
    return [
        f"Encoder {encoder['label']}: it was never pretrained, so no score {whose} speaks of a pretrained one."
        for encoder in encoders
        if not encoder["pretrained"]
    ]


def _best_of_encoders(board: pd.DataFrame, config: Mapping[str, Any]) -> list[str]:
    """The best trial of each of several encoders, in a sentence."""
    encoders = encoders_of(config["plan"])
    if len(encoders) < 2:
        return []
    trials = _without_baselines(board)
    told = []
    for label in (encoder["label"] for encoder in encoders):
        own = trials[trials["encoder"] == label]
        scored = own[own[SCORE].notna() & (own["status"] != "failed")]
        best = f"{scored[SCORE].iloc[0]:.3f} ({scored['trial_id'].iloc[0]}, " if len(scored) else "no score ("
        told.append(f"{label} {best}{len(own)} trial{'' if len(own) == 1 else 's'})")
    return [f"Best of each encoder, of those tried: {'; '.join(told)}."]


def _markdown(board: pd.DataFrame, config: Mapping[str, Any], ending: str | None, gains: Sequence[str]) -> str:
    data, arguments = config["data"], config["arguments"]
    trials = _without_baselines(board)
    encoder = ""
    if encoders := encoders_of(config["plan"]):
        used = ["", *sorted(board[PRECISION].dropna().unique())]
        noun = "encoder" if len(encoders) == 1 else "encoders"
        encoder = f", {noun} {', '.join(each['label'] for each in encoders)}" + ", in ".join(used)
    counts = trials["status"].value_counts()
    told = ", ".join(
        f"{counts[name]} {name}" for name in ("completed", "stopped", "failed", "running") if name in counts
    )
    parts = [
        f"# Leaderboard: {arguments['space']} on {data['corpus']}, split {data['split']}{encoder}",
        "",
        *(f"- {line}" for line in (*caption(board, config), *gains)),
        f"- {len(trials)} trials: {told}. " + (f"Ended by: {ending}." if ending else "The search is not finished."),
        f"- Seed {arguments['seed']}, commit {config['commit']}, manifest {data['manifest_hash'][:12]}, "
        + ", ".join(f"{name} {version}" for name, version in config["versions"].items())
        + ".",
        f"- `{config['command']}`",
        "",
        "| rank | trial | status | val UAR | 95 % over speakers | accuracy | macro-F1 "
        + "".join(f"| {EXTRA_TITLES[name]} " for name in extra_scores(board))
        + "| epochs | seconds | configuration |",
        "|---:|---|---|---:|---|---:|---:|" + "---:|" * len(extra_scores(board)) + "---:|---:|---|",
    ]
    shared, varying = split_settings(board)
    parts[-2:-2] = [f"All trials: {_settings(shared)}.", ""] if shared else []
    for row in head(board, _MARKDOWN_ROWS).to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        chosen = {name: named[f"config.{name}"] for name in varying if not _is_missing(named[f"config.{name}"])}
        parts.append(_markdown_row(named, _settings(chosen)))
    left_out = len(board) - len(head(board, _MARKDOWN_ROWS))
    if left_out:
        parts.append(f"\n{left_out} more rows: {CSV_FILE}")
    return "\n".join(parts) + "\n"


def head(board: pd.DataFrame, rows: int) -> pd.DataFrame:
    """The first *rows* of a board, and the baselines wherever they stand."""
    return board[(np.arange(len(board)) < rows) | (board["origin"] == BASELINE)]


def extra_scores(board: pd.DataFrame) -> list[str]:
    """Columns of scores that only some tasks and families have, as far as this board has them."""
    return [name for name in _EXTRAS if name in board.columns]


def _without_baselines(board: pd.DataFrame) -> pd.DataFrame:
    return board[board["origin"] != BASELINE]


def split_settings(board: pd.DataFrame) -> tuple[dict[str, Any], list[str]]:
    """Parameters that all trials share, with their value, and the names of those that differ between them."""
    shared: dict[str, Any] = {}
    varying: list[str] = []
    board = _without_baselines(board)
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
    return ", ".join(f"{name}={short(value)}" for name, value in values.items())


def _markdown_row(row: Mapping[str, Any], settings: str) -> str:
    metrics = [short_score(row[name]) for name in (SCORE, "val_accuracy", "val_macro_f1")]
    extras = [short_score(row[name]) for name in _EXTRAS if name in row]
    has_interval = not _is_missing(row["val_uar_low"])  # one speaker alone gives none
    interval = f"{row['val_uar_low']:.3f}–{row['val_uar_high']:.3f}" if has_interval else "–"
    status = row["status"] + (f" ({row['reason']})" if row["status"] == "failed" else "")
    cells = [row["rank"], row["trial_id"], status, metrics[0], interval, metrics[1], metrics[2]]
    cells += [*extras, row["epochs"], f"{row['seconds']:.0f}", settings]
    return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def short_score(value: float) -> str:
    """A score for a person; a dash where there is none."""
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
