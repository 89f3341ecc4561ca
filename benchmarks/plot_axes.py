"""What each searched parameter did: a panel for each, a point for each trial, from a run's leaderboard.

``python benchmarks/plot_axes.py RUN FIGURE.svg unfreeze_depth backbone_lr max_clip_seconds …``

RUN is a search's folder. Trials without a score are left out; a parameter that a trial does not have (the backbone's
rate of a frozen encoder) has no point for it. A baseline is a dashed line.
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

STYLES = {"completed": ("o", "#0072B2"), "stopped": ("x", "#D55E00"), "running": ("+", "#7F7F7F")}
LOG_FROM = 20  # times its smallest value: from there on an axis is logarithmic
COLUMNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("figure", type=Path, help="an .svg file")
    parser.add_argument("parameters", nargs="+")
    options = parser.parse_args()
    board = pd.read_csv(options.run / "leaderboard.csv")
    board = board[board["val_uar"].notna()]
    columns = [f"config.{name}" for name in options.parameters]
    unknown = [name for name, column in zip(options.parameters, columns, strict=True) if column not in board]
    if unknown:
        known = ", ".join(name.removeprefix("config.") for name in board if name.startswith("config."))
        parser.error(f"the run has no parameter {unknown[0]!r}. It has: {known}")
    figure = draw(board, columns)
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasSVG(figure)
    figure.savefig(options.figure, metadata={"Date": None})


def draw(board: pd.DataFrame, columns: list[str]) -> Figure:
    """The figure: one panel a column of *board*."""
    rows = -(-len(columns) // COLUMNS)
    figure = Figure(figsize=(3.6 * min(COLUMNS, len(columns)), 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, min(COLUMNS, len(columns)), squeeze=False, sharey=True)
    for panel, column in zip(panels.flat, columns, strict=False):
        _panel(panel, board, column)
    for panel in list(panels.flat)[len(columns) :]:
        panel.set_axis_off()
    for row in panels:
        row[0].set_ylabel("best validation UAR")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _panel(panel: Axes, board: pd.DataFrame, column: str) -> None:
    for _, baseline in board[board["origin"] == "baseline"].iterrows():
        panel.axhline(baseline["val_uar"], color="#444444", linewidth=1, linestyle="--", label=baseline["trial_id"])
    trials = board[board[column].notna()]
    values = trials[column]
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str)
        order = sorted(values.unique())
        values = values.map(order.index)
        panel.set_xticks(range(len(order)), order)
    elif values.min() > 0 and values.max() > LOG_FROM * values.min():
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif values.nunique() <= 6 and (values % 1 == 0).all():
        panel.set_xticks(sorted(values.unique()))
    for status, (marker, colour) in STYLES.items():
        chosen = trials["status"] == status
        if chosen.any():
            panel.scatter(
                values[chosen], trials.loc[chosen, "val_uar"], marker=marker, color=colour, s=22, label=status
            )
    panel.set_xlabel(column.removeprefix("config."))
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()
