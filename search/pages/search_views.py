"""How a search went: best-so-far, who was stopped where, learning curves, families side by side, score against cost."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.families import FAMILIES
from search.leaderboard import status_of
from search.opening import ladder_of
from search.pages.charts import DASHES, PALETTE, SYMBOLS, chart, colour, label
from search.pages.found import FoundRun, FoundSearch
from search.pages.markup import Html, Part, duration, element, interval, number, table
from search.parameters import short
from search.result_keys import EPOCH, HITS, NUM_PARAMETERS, SCORE
from search.study import StudyTrial, best_of
from ser_models.metrics import uar_interval
from ser_models.trial import COST

STATUS_COLOURS = {"completed": PALETTE[0], "stopped": PALETTE[1], "failed": PALETTE[4], "running": PALETTE[2]}
_SIGNS = {"completed": "circle", "stopped": "x", "failed": "cross", "running": "circle-open"}
_UAR = {"title": {"text": "validation UAR"}}


def best_so_far(run: FoundRun) -> Html:
    """The best score over the time of the search; a line a space."""
    traces: list[dict[str, Any]] = []
    longest = 0.0
    for place, search in enumerate(run.searches):
        best, x, y, told = -math.inf, [], [], []
        for seconds, trial, report in search.epochs_at():
            longest = max(longest, seconds)
            if report[SCORE] > best and trial.outcome != "failed":
                best = report[SCORE]
                x.append(seconds / 60)
                y.append(best)
                told.append(f"{trial.trial_id}, epoch {report[EPOCH]}")
        if x:
            traces.append({"x": x, "y": y, "text": told, "name": label(search.space), "mode": "lines+markers",
                           "line": {"shape": "hv", "color": colour(place), "dash": DASHES[place % 4]},
                           "marker": {"symbol": SYMBOLS[place % len(SYMBOLS)]},
                           "hovertemplate": "%{y:.3f} after %{x:.1f} min<br>%{text}<extra></extra>"})  # fmt: skip
    for trace in traces:  # the best holds to the end
        trace["x"].append(longest / 60)
        trace["y"].append(trace["y"][-1])
        trace["text"].append("the end")
    return chart(
        traces, {"xaxis": {"title": {"text": "minutes of search"}, "rangemode": "tozero"}, "yaxis": _UAR,
                 "showlegend": len(traces) > 1},
        title="Best so far", text="Best validation UAR of any epoch until then; pauses between sittings do not count.",
    )  # fmt: skip


def learning_curves(search: FoundSearch) -> Html:
    """Validation UAR of every trial by epoch, with the rungs."""
    traces: list[dict[str, Any]] = []
    best = best_of(search.trials.values())
    for kind in STATUS_COLOURS:
        x: list[int | None] = []
        y: list[float | None] = []
        told: list[str | None] = []
        for trial in search.trials.values():
            if not trial.epochs or trial is best or status_of(trial, ended=search.ended) != kind:
                continue
            x += [*(report[EPOCH] for report in trial.epochs), None]
            y += [*trial.scores, None]
            told += [*(trial.trial_id for _ in trial.epochs), None]
        if x:
            traces.append({"x": x, "y": y, "text": told, "name": kind, "mode": "lines+markers", "opacity": 0.65,
                           "line": {"color": STATUS_COLOURS[kind], "width": 1}, "marker": {"size": 4},
                           "connectgaps": False,
                           "hovertemplate": "%{text}: %{y:.3f} at %{x}<extra></extra>"})  # fmt: skip
    if best is not None:
        traces.append({"x": [report[EPOCH] for report in best.epochs], "y": best.scores, "mode": "lines",
                       "name": f"best, {best.trial_id}", "line": {"color": PALETTE[3], "width": 4},
                       "hovertemplate": "%{y:.3f} at %{x}<extra>%{fullData.name}</extra>"})  # fmt: skip
    dotted = {"color": "#888888", "width": 1, "dash": "dot"}
    lines = [{"type": "line", "x0": epoch, "x1": epoch, "yref": "paper", "y0": 0, "y1": 1, "line": dotted}
             for epoch in ladder_of(search.config)]  # fmt: skip
    return chart(
        traces, {"xaxis": {"title": {"text": "epoch"}}, "yaxis": _UAR, "shapes": lines}, title="Learning curves",
        text="One line a trial." + (" Dotted: the rungs." if lines else ""),
    )  # fmt: skip


def rungs(search: FoundSearch) -> list[Html]:
    """Who was stopped at which rung: every trial that reached it, by its best score until then."""
    epochs = ladder_of(search.config)
    scheduler = search.config["arguments"].get("scheduler", "asha")
    if not epochs:
        return [element("p", f"Scheduler {scheduler}: " + (
            "every trial ran to its end." if scheduler == "none" else "it has no single set of rungs to show; the "
            "reason why a trial was stopped stands in its row."), class_="note")]  # fmt: skip
    points: dict[str, dict[str, list[Any]]] = {kind: {"x": [], "y": [], "text": []} for kind in ("went on", "stopped")}
    rows: list[list[Part]] = []
    for epoch in epochs:
        reached = [trial for trial in search.trials.values() if len(trial.epochs) >= epoch]
        cut = [trial for trial in reached if trial.outcome == "stopped" and len(trial.epochs) == epoch]
        for trial in reached:
            kind = points["stopped" if trial in cut else "went on"]
            kind["x"].append(f"rung {epoch}")
            kind["y"].append(max(trial.scores[:epoch]))
            group = _rung_group(search, trial)
            kind["text"].append(label(trial.trial_id + (f", {group}" if group else "")))
        names = ", ".join(trial.trial_id for trial in cut) or "nobody"
        rows.append([f"rung {epoch}", names, len(reached), len(reached) - len(cut), len(cut)])
    traces = [
        {**points[kind], "name": kind, "mode": "markers", "hovertemplate": "%{text}: %{y:.3f}<extra>%{x}</extra>",
         "marker": {"color": shade, "symbol": sign, "size": 9, "opacity": 0.8}}
        for kind, shade, sign in (("went on", PALETTE[0], "circle"), ("stopped", PALETTE[1], "x"))
    ]  # fmt: skip
    return [
        chart(traces, {"xaxis": {"type": "category"}, "yaxis": _UAR}, title=f"Rungs of {scheduler}",
              text="Best score until the rung of every trial that reached it. Kinds of network are compared among "
                   "themselves, so that a cross may stand above a circle."),
        table(["rung", "stopped here", "reached", "went on", "stopped"], rows, text=2, caption="Who was stopped where"),
    ]  # fmt: skip


def _rung_group(search: FoundSearch, trial: StudyTrial) -> str:
    """Among whom a trial was compared; empty where this version cannot tell."""
    family = FAMILIES.get(search.config["plan"]["family"])
    try:
        return family.rung_group(trial.config) if family is not None else ""
    except KeyError:  # another version's configuration
        return ""


def side_by_side(run: FoundRun) -> list[Html]:
    """The spaces of a run: what each got, and what it reached."""
    traces: list[dict[str, Any]] = []
    rows: list[list[Part]] = []
    total = sum(trial.seconds for search in run.searches for trial in search.trials.values()) or 1.0
    for place, search in enumerate(run.searches):
        scored = [trial for trial in search.trials.values() if trial.epochs and trial.outcome != "failed"]
        taken = sum(trial.seconds for trial in search.trials.values())
        best = best_of(scored)
        cells = ["–"] * 3
        if best is not None and search.data is not None:
            hits = (best.best_epoch or {}).get(HITS)
            low, high = uar_interval(np.array(hits), np.array(search.data["val_totals"])) if hits else (math.nan,) * 2
            cells = [f"{best.best_score:.3f}", interval(low, high),
                     number(statistics.median(trial.best_score for trial in scored))]  # fmt: skip
        rows.append([search.space, search.config["plan"]["family"], run.chosen.get(search.space, "–"),
                     len(search.trials), *cells, duration(taken), f"{taken / total:.0%}"])  # fmt: skip
        traces.append({"type": "box", "y": [trial.best_score for trial in scored], "name": label(search.space),
                       "boxpoints": "all", "jitter": 0.4, "pointpos": 0, "marker": {"color": colour(place), "size": 5},
                       "line": {"width": 1}, "text": [trial.trial_id for trial in scored],
                       "hovertemplate": "%{text}: %{y:.3f}<extra></extra>"})  # fmt: skip
    titles = [
        "space",
        "family",
        "chosen by",
        "trials",
        "best UAR",
        "95 % over speakers",
        "median",
        "time in trials",
        "share",
    ]
    return [
        chart(traces, {"yaxis": _UAR, "showlegend": False}, title="Families side by side",
              text="Best score of every trial."),
        table(titles, rows, text=3, caption="What each space got of the budget"),
    ]  # fmt: skip


def pareto(run: FoundRun) -> Html:
    """Score against what the network costs to use, with those that nothing cheaper beats.

    Runs of earlier versions counted no multiply-adds: there the number of parameters stands for the cost.
    """
    scored = [
        (place, trial, trial.best_epoch)
        for place, search in enumerate(run.searches)
        for trial in search.trials.values()
        if trial.best_epoch is not None and trial.outcome != "failed"
    ]
    prefixes = [f"{search.space}/" if len(run.searches) > 1 else "" for search in run.searches]
    counted = all(report.get(COST) for _, _, report in scored)
    key, unit = (COST, "GMAC/s") if counted else (NUM_PARAMETERS, "parameters")
    points: list[tuple[float, float, str, int]] = [
        (float(report[key]), trial.best_score, f"{prefixes[place]}{trial.trial_id}", place)
        for place, trial, report in scored
        if report.get(key)
    ]
    front, best = [], -math.inf
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if point[1] > best:
            front.append(point)
            best = point[1]
    traces: list[dict[str, Any]] = [
        {"x": [p[0] for p in points if p[3] == place], "y": [p[1] for p in points if p[3] == place],
         "text": [p[2] for p in points if p[3] == place], "name": label(search.space), "mode": "markers",
         "marker": {"color": colour(place), "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8, "opacity": 0.75},
         "hovertemplate": "%{text}: %{y:.3f}, %{x:.3s} " + unit + "<extra></extra>"}
        for place, search in enumerate(run.searches)
    ]  # fmt: skip
    traces.append({"x": [p[0] for p in front], "y": [p[1] for p in front], "text": [p[2] for p in front],
                   "name": "front", "mode": "lines", "line": {"color": "#888888", "shape": "hv", "width": 2},
                   "hoverinfo": "skip"})  # fmt: skip
    told = ", ".join(f"{short(point[2])} {point[1]:.3f}" for point in front[-4:])
    title, axis, text = (
        ("Score against inference cost", "10⁹ multiply-adds per second of audio",
         f"Nothing cheaper beats the front ({told}). Counted in the network, without its features.")
        if counted else
        ("Score against size", "parameters",
         f"Nothing smaller beats the front ({told}). This run counted no multiply-adds, so the number of parameters "
         "stands for the cost of inference.")
    )  # fmt: skip
    return chart(
        traces,
        {"xaxis": {"type": "log", "exponentformat": "none", "title": {"text": axis}}, "yaxis": _UAR},
        title=title,
        text=text,
    )


def counts(trials: Mapping[int, StudyTrial], *, ended: bool) -> str:
    """How many trials ended how, in words."""
    kinds: Sequence[str] = [status_of(trial, ended=ended) for trial in trials.values()]
    return ", ".join(f"{kinds.count(name)} {name}" for name in STATUS_COLOURS if name in kinds) or "none"
