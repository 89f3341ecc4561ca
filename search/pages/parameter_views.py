"""What parameters were worth in a search: importance, parallel coordinates, a slice of each.

Optuna's own plots show trials that ran to their end and have all parameters; where ASHA stops two in three and spaces
branch, that is a fraction. Here every trial with a score is shown, and one that was not asked for a parameter stands at
its foot, "not asked". Importance is Optuna's.
"""

import math
from collections.abc import Sequence
from typing import Any

from search.pages.charts import PALETTE, chart, label
from search.pages.found import FoundSearch
from search.pages.markup import Html, element
from search.pages.search_views import STATUS_COLOURS
from search.parameters import Value, short
from search.study import StudyTrial

_FEWEST_FOR_IMPORTANCE = 10  # trials that ran to their end; below, a forest fits noise
_MOST_AXES = 10
_FEW_VALUES = 8  # of a parameter, that get a tick each
_NOT_ASKED = "not asked"


def scored_trials(search: FoundSearch) -> list[StudyTrial]:
    return [trial for trial in search.trials.values() if trial.epochs and trial.outcome != "failed"]


def importance(search: FoundSearch) -> tuple[Html, list[str]]:
    """Optuna's importance of the parameters, or why there is none.

    Returns:
        the chart or a sentence, and the names of parameters, the most important first
    """
    finished = [trial for trial in search.trials.values() if trial.outcome == "completed" and trial.epochs]
    title = "Hyperparameter importance"
    if len(finished) < _FEWEST_FOR_IMPORTANCE:
        return _instead(title, f"{len(finished)} trials ran to their end; with fewer than {_FEWEST_FOR_IMPORTANCE} "
                               "importance would be noise, and is not shown."), []  # fmt: skip
    shared = set.intersection(*(set(trial.params) for trial in finished))
    asked = set().union(*(set(trial.params) for trial in finished))
    try:
        found = _importances(finished, sorted(shared))
    except (ValueError, RuntimeError, UserWarning) as error:
        return _instead(title, f"Optuna cannot say it of these trials: {error}"), []
    if not found:
        return _instead(title, "No parameter that all finished trials share took more than one value."), []
    names = list(found)
    left_out = sorted(asked - shared)
    text = (f"PED-ANOVA (Optuna) over the {len(finished)} trials that ran to their end: how much of what sets "
            "the best quarter of them apart lies in one parameter alone.")  # fmt: skip
    if left_out:
        text += f" Left out, since not all of these trials were asked for them: {', '.join(left_out)}."
    bars = {"type": "bar", "orientation": "h", "x": list(found.values())[::-1], "y": list(map(label, names[::-1])),
            "marker": {"color": PALETTE[0]}, "hovertemplate": "%{y}: %{x:.2f}<extra></extra>"}  # fmt: skip
    layout = {"xaxis": {"title": {"text": "importance"}, "rangemode": "tozero"}, "yaxis": {"automargin": True}}
    return chart([bars], layout, title=title, text=text, height=max(240, 90 + 22 * len(names))), names


def _importances(trials: Sequence[StudyTrial], names: Sequence[str]) -> dict[str, float]:
    import warnings

    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    distributions: dict[str, BaseDistribution] = {}
    for name in names:
        values = [trial.params[name] for trial in trials]
        different = sorted(set(values), key=str)
        if len(different) < 2:
            continue
        if _are_numbers(values):
            low, high = float(min(values)), float(max(values))
            distributions[name] = FloatDistribution(low, high, log=_is_log(values))
        else:
            distributions[name] = CategoricalDistribution(different)
    if not distributions:
        return {}
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params = {name: float(trial.params[name]) if isinstance(kind, FloatDistribution) else trial.params[name]
                  for name, kind in distributions.items()}  # fmt: skip
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=trial.best_score)
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("error", UserWarning)  # says that what it gives means nothing
        # Optuna's best tenth of ten trials would be one
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))


def _are_numbers(values: Sequence[Value]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_log(values: Sequence[Any]) -> bool:
    """Whether values cover more than a factor of twenty, as a learning rate's do."""
    return bool(min(values) > 0 and max(values) / min(values) > 20)


def _instead(title: str, text: str) -> Html:
    return element("figure", element("figcaption", element("b", title)), element("p", text, class_="note"))


def varying_parameters(search: FoundSearch, first: Sequence[str] = ()) -> list[str]:
    """Names of the searched parameters that took more than one value, those of *first* first, then the most asked."""
    trials = scored_trials(search)
    asked = [name for trial in trials for name in trial.params]
    names = [name for name in dict.fromkeys(asked)
             if len({str(trial.params.get(name, _NOT_ASKED)) for trial in trials}) > 1]  # fmt: skip
    order = {name: place for place, name in enumerate(first)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), -asked.count(name), name))


def parallel_coordinates(search: FoundSearch, names: Sequence[str]) -> Html:
    """Every trial as a line through the values of its parameters, coloured by score."""
    trials = scored_trials(search)
    shown = list(names[:_MOST_AXES])
    if len(trials) < 2 or not shown:
        return _instead("Parallel coordinates", "There is nothing to compare yet.")
    scores = [trial.best_score for trial in trials]
    axes = [_axis(name, [trial.params.get(name) for trial in trials]) for name in shown]
    axes.append({"label": "UAR", "values": scores, "tickformat": ".3f"})
    trace = {"type": "parcoords", "dimensions": axes, "labelangle": -20, "labelside": "bottom",
             "line": {"color": scores, "colorscale": "Viridis", "showscale": True, "cmin": min(scores),
                      "cmax": max(scores)}}  # fmt: skip
    text = f"{len(trials)} trials, stopped ones among them. Drag along an axis to choose, along its name to move it."
    if len(names) > len(shown):
        text += f" Not shown: {', '.join(names[_MOST_AXES:])}."
    return chart([trace], {"margin": {"l": 60, "r": 60, "t": 30, "b": 80}}, title="Parallel coordinates", text=text,
                 height=430, wide=True, min_width=110 * len(axes))  # fmt: skip


def _axis(name: str, values: Sequence[Value | None]) -> dict[str, Any]:
    """One axis; trials that were not asked stand at its foot."""
    known = [value for value in values if value is not None]
    missing = len(known) < len(values)
    if not _are_numbers(known):
        different = sorted({str(value) for value in known})
        places = {value: float(place) for place, value in enumerate(different)}
        numbers = [places[str(value)] if value is not None else -1.0 for value in values]
        ticks = list(places.values()), different
    else:
        log = _is_log(known)
        scaled = [float(value) if value is not None else math.nan for value in values]
        scaled = [math.log10(value) if log and not math.isnan(value) else value for value in scaled]
        low, high = min(v for v in scaled if not math.isnan(v)), max(v for v in scaled if not math.isnan(v))
        foot = low - 0.12 * ((high - low) or 1.0)
        numbers = [foot if math.isnan(value) else value for value in scaled]
        at = sorted({value for value in scaled if not math.isnan(value)})
        if len(at) > _FEW_VALUES:
            at = [low + (high - low) * part / 4 for part in range(5)]
        ticks = at, [short(10.0**value if log else _whole(value)) for value in at]
        if missing:
            ticks = [foot, *ticks[0]], [_NOT_ASKED, *ticks[1]]
            missing = False
    if missing:
        ticks = [-1.0, *ticks[0]], [_NOT_ASKED, *ticks[1]]
    span = [min(numbers), max(numbers)]
    return {"label": label(name), "values": numbers, "tickvals": ticks[0], "ticktext": ticks[1],
            **({"range": span} if span[0] < span[1] else {})}  # fmt: skip


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def slices(search: FoundSearch, names: Sequence[str]) -> list[Html]:
    """Score by the values of each parameter."""
    trials = scored_trials(search)
    found = []
    for name in names:
        asked = [trial for trial in trials if name in trial.params]
        values = [trial.params[name] for trial in asked]
        if len(set(map(str, values))) < 2:
            continue
        axis: dict[str, Any] = {"title": {"text": label(name)}}
        if _are_numbers(values):
            axis |= {"type": "log"} if _is_log(values) else {}
        else:
            axis |= {"type": "category"}
            values = [label(value) for value in values]
        traces = [
            {"x": [value for value, trial in zip(values, asked, strict=True) if _kind(trial) == kind],
             "y": [trial.best_score for trial in asked if _kind(trial) == kind],
             "text": [trial.trial_id for trial in asked if _kind(trial) == kind], "name": kind, "mode": "markers",
             "marker": {"color": STATUS_COLOURS[kind], "symbol": "circle" if kind == "completed" else "x", "size": 7,
                        "opacity": 0.75},
             "hovertemplate": "%{text}: %{y:.3f} with %{x}<extra></extra>"}
            for kind in ("completed", "stopped")
        ]  # fmt: skip
        text = "" if len(asked) == len(trials) else f"{len(asked)} of {len(trials)} trials were asked for it."
        found.append(chart(traces, {"xaxis": axis, "showlegend": False, "yaxis": {"title": {"text": "UAR"}}},
                           title=name, text=text, height=230))  # fmt: skip
    return found


def _kind(trial: StudyTrial) -> str:
    return "completed" if trial.outcome == "completed" else "stopped"
