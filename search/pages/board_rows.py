"""The rows of a board: trials, baselines and what the finalists reached on test, of one run or of several.

Runs stand on one board where they were judged on the same clips: same manifest, same split, same emotions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from search.baselines import BASELINE, CLASSICAL_ROW
from search.leaderboard import leaderboard
from search.pages.found import FoundBundle, FoundRun, FoundSearch
from search.pages.reproduce import command_of
from search.result_keys import ROC_AUC, SCORE, TRAINED_PARAMETERS
from ser_models.trial import COST

_FLOAT_BYTES = 4
#: Fields of a row by the columns of :func:`search.leaderboard.leaderboard`.
_FROM_BOARD = {
    "trial": "trial_id", "status": "status", "family": "family", "space": "space", "encoder": "encoder",
    "val_uar": SCORE, "val_low": "val_uar_low", "val_high": "val_uar_high", "val_accuracy": "val_accuracy",
    "val_macro_f1": "val_macro_f1", "val_roc_auc": ROC_AUC, "epochs": "epochs", "seconds": "seconds",
    "parameters": "parameters", "trained": TRAINED_PARAMETERS, "cost": COST, "reason": "reason", "origin": "origin",
    "best_epoch": "best_epoch",
}  # fmt: skip
_FROM_FINALISTS = ("test_uar", "test_uar_low", "test_uar_high", "test_uar_sd", "test_accuracy", "test_macro_f1")


@dataclass
class Row:
    """One row.

    Attributes:
        run: whose it is
        values: by field, see the module; what is not known is missing
        config: of a trial
        command: that trains the trial again; empty of other rows
    """

    run: FoundRun
    values: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    def __getitem__(self, name: str) -> Any:
        """A field, None where it is missing."""
        value = self.values.get(name)
        return None if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value

    @property
    def is_baseline(self) -> bool:
        return bool(self.values.get("origin") == BASELINE)


@dataclass(frozen=True)
class Board:
    """Rows that may be compared, the best first.

    Attributes:
        data: what ``config.json`` says of the data of all of them
        runs: whose rows they are
        rows: in their order
    """

    data: Mapping[str, Any]
    runs: Sequence[FoundRun]
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        emotions = self.data.get("emotions", ())
        named = f"{len(emotions)} emotions" if len(emotions) > 2 else " and ".join(emotions)
        return f"{self.data['corpus']}, split {self.data['split']}, {named}"

    @property
    def trials(self) -> list[Row]:
        return [row for row in self.rows if row.config]

    @property
    def best(self) -> Row | None:
        """The best trial by validation."""
        return next((row for row in self.trials if row["val_uar"] is not None and row["status"] != "failed"), None)

    @property
    def winner(self) -> Row | None:
        """The finalist that validation ranks first."""
        finalists = [row for row in self.rows if row["role"] == "finalist" and row["test_uar"] is not None]
        return min(finalists, key=lambda row: int(row["place"] or 0), default=None)


def boards_of(runs: Sequence[FoundRun]) -> list[Board]:
    """One board for each kind of data, in the order of *runs*."""
    groups: dict[tuple[Any, ...], list[FoundRun]] = {}
    for run in runs:
        data = _data_of(run)
        if data is not None:
            key = (data["manifest_hash"], data["split"], tuple(data.get("emotions", ())), str(data["val_totals"]))
            groups.setdefault(key, []).append(run)
    return [_board(group) for group in groups.values()]


def _data_of(run: FoundRun) -> Mapping[str, Any] | None:
    return next((search.data for search in run.searches if search.data is not None), None)


def _board(runs: Sequence[FoundRun]) -> Board:
    rows = [row for run in runs for row in _rows_of(run)]
    rows.sort(key=_place)
    for rank, row in enumerate(rows, start=1):
        row.values["rank"] = rank if row["val_uar"] is not None else None
    data = _data_of(runs[0])
    assert data is not None
    return Board(data, runs, rows)


def _place(row: Row) -> tuple[bool, float, bool]:
    score = row["val_uar"]
    return row["status"] == "failed", math.inf if score is None else -float(score), row.is_baseline


def _rows_of(run: FoundRun) -> list[Row]:
    rows: list[Row] = []
    for search in run.searches:
        if search.data is None:
            continue
        own = _search_rows(run, search, prefix=f"{search.space}/" if len(run.searches) > 1 else "")
        if any(row["trial"] == CLASSICAL_ROW for row in rows):  # it is one for all spaces of a run
            own = [row for row in own if row["trial"] != CLASSICAL_ROW]
        rows += own
    for bundle in run.bundles:
        _add_bundle(rows, bundle)
    if run.finalists is not None:
        _add_finalists(rows, run, run.finalists)
    return rows


def _search_rows(run: FoundRun, search: FoundSearch, prefix: str) -> list[Row]:
    board = leaderboard(search.trials.values(), search.config, baselines=search.baselines, ended=search.ended)
    gpu_seconds = search.gpu_seconds()
    by_name = {trial.trial_id: trial for trial in search.trials.values()}
    rows = []
    for told in board.to_dict("records"):
        values = {name: told.get(column) for name, column in _FROM_BOARD.items()}
        trial = by_name.get(str(values["trial"]))
        row = Row(run, values)
        if trial is not None:
            row.config = dict(trial.config)
            row.command = command_of(trial, search.config)
            values["bytes"] = None if row["parameters"] is None else _FLOAT_BYTES * int(row["parameters"])
            values["number"] = trial.number
            if gpu_seconds:
                values["gpu_seconds"] = gpu_seconds[trial.number]
        if row["trial"] != CLASSICAL_ROW:
            values["trial"] = prefix + str(values["trial"])
        rows.append(row)
    return rows


def _add_bundle(rows: Sequence[Row], bundle: FoundBundle) -> None:
    for row in rows:
        if row.config and row["space"] == bundle.space and str(row["trial"]).rpartition("/")[2] == bundle.trial_id:
            row.values |= {"bytes": bundle.num_bytes, "measured_bytes": True}
            if bundle.speed is not None:
                row.values |= {"speed": bundle.speed.per_second, "threads": bundle.speed.threads}


def _add_finalists(rows: list[Row], run: FoundRun, finalists: pd.DataFrame) -> None:
    """What the finalists' board says, to the rows that it is about; its ensemble is a row of its own."""
    known = {str(row["trial"]): row for row in rows}
    for told in finalists.to_dict("records"):
        name = str(told["name"])
        row = known.get(name)
        if row is None:
            row = Row(run, {"trial": name, "status": "completed", "origin": str(told["role"])})
            rows.append(row)
        row.values |= {key: told.get(key) for key in _FROM_FINALISTS}
        row.values |= {"seeds": told.get("trainings"), "role": str(told["role"]), "place": told.get("rank")}
