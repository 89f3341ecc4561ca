#!/usr/bin/env python3
"""What a parameter was worth in a search: ``python search/compare.py RUN --by unfreeze_depth``."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# this file's folder comes first on the path; the packages lie beside it and under datasets/
_ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(_ROOT), str(_ROOT / "datasets")]

from ser_data.command import run_command  # noqa: E402
from ser_data.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

    from search.study import StudyTrial

_EPILOG = """Trials are grouped by the parameter's value, continuous ones into thirds. Of each group: its best trial
with a 95 % interval over speakers, the median of its trials' best scores, the median seconds of an epoch, and what its
best trial loses against the best of all, with a paired bootstrap over speakers. The sampler soon leaves what scores
low, so medians say as much of it as of the parameter."""
_FEW = 6  # values of a parameter that get a group each


def compare(run: Path, name: str) -> "tuple[pd.DataFrame, list[str]]":
    """One row per group of trials, in the order of the parameter's values.

    Args:
        run: a search's folder
        name: a parameter

    Returns:
        ``value, trials, completed, best, low, high, median, seconds`` (of an epoch) and ``trial_id`` of the best; and a
        sentence for each group but the best one

    Raises:
        UserError: *run* holds no search, or no trial has the parameter and a score
    """
    import numpy as np
    import pandas as pd

    from search import run_folder
    from search.gains import Compared, gain
    from search.record import read_events
    from search.result_keys import HITS
    from search.study import trials_of
    from ser_models.metrics import uar_interval

    config = run_folder.load(run)
    if "members" in config:
        spaces = ", ".join(config["members"])
        raise UserError(f"{run} is a search over several spaces. Name the folder of one: {run}/SPACE with {spaces}.")
    trials = [trial for trial in trials_of(read_events(run / run_folder.RECORD_FILE)).values() if trial.epochs]
    scored = [trial for trial in trials if trial.outcome != "failed"]
    having = [trial for trial in scored if name in trial.config]
    if not having:
        known = sorted({key for trial in scored for key in trial.config})
        raise UserError(
            f"--by {name}: no trial of {run} has a score and a parameter '{name}'. "
            + (f"Its parameters: {', '.join(known)}." if known else "No trial has a score yet.")
        )
    totals = np.array(config["data"]["val_totals"])
    rows, best = [], {}
    for value, group in _grouped(having, name):
        best[value] = first = max(group, key=lambda trial: trial.best_score)
        hits = (first.best_epoch or {}).get(HITS)
        low, high = uar_interval(np.array(hits), totals) if hits else (float("nan"), float("nan"))
        rows.append(
            {
                "value": value,
                "trials": len(group),
                "completed": sum(trial.outcome == "completed" for trial in group),
                "best": first.best_score,
                "low": low,
                "high": high,
                "median": statistics.median(trial.best_score for trial in group),
                "seconds": statistics.median(report["seconds"] for trial in group for report in trial.epochs),
                "trial_id": first.trial_id,
            }
        )
    leader = max(best, key=lambda value: best[value].best_score)
    compared = {value: Compared(f"{name} {value}", trial.best_score, (trial.best_epoch or {}).get(HITS))
                for value, trial in best.items()}  # fmt: skip
    sentences = [gain(compared[value], compared[leader], totals) for value in best if value != leader]
    return pd.DataFrame(rows), sentences


def _grouped(trials: "Sequence[StudyTrial]", name: str) -> "list[tuple[str, list[StudyTrial]]]":
    """Groups in the order of values; a parameter of many numbers is cut into thirds of its trials."""
    from search.parameters import short

    values = {trial.config[name] for trial in trials}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if len(values) <= _FEW or not numbers:
        ordered = sorted(values, key=lambda value: (isinstance(value, str), value if numbers else str(value)))
        return [(short(value), [trial for trial in trials if trial.config[name] == value]) for value in ordered]
    ranked = sorted(trials, key=lambda trial: float(trial.config[name]))
    thirds = [ranked[len(ranked) * part // 3 : len(ranked) * (part + 1) // 3] for part in range(3)]
    return [(f"{short(some[0].config[name])} to {short(some[-1].config[name])}", some) for some in thirds if some]


def main(argv: list[str]) -> int:
    """Print the groups of a search."""
    parser = argparse.ArgumentParser(prog="python search/compare.py", description=__doc__, epilog=_EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="a search's folder")
    parser.add_argument("--by", required=True, metavar="NAME", help="a parameter, e.g. unfreeze_depth or network")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: table")
    arguments = parser.parse_args(argv)
    groups, sentences = compare(arguments.run, arguments.by)
    if arguments.format == "csv":
        print(groups.to_csv(index=False), end="")
    elif arguments.format == "json":
        print(json.dumps({"groups": json.loads(groups.to_json(orient="records")), "sentences": sentences}, indent=2))
    else:
        _print_table(groups, sentences, arguments.by)
    return 0


def _print_table(groups: "pd.DataFrame", sentences: list[str], name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(name, "trials", "completed", "best UAR", "95 % over speakers", "median", "s an epoch", "best trial")
    for row in groups.to_dict("records"):
        table.add_row(
            row["value"], str(row["trials"]), str(row["completed"]), f"{row['best']:.3f}",
            f"{row['low']:.3f}–{row['high']:.3f}", f"{row['median']:.3f}", f"{row['seconds']:.1f}", row["trial_id"],
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_command(main)
