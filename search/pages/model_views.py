"""What finalists do on test speakers: confusions, recalls, groups of people, calibration, and where people disagree."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.pages.charts import PALETTE, chart
from search.pages.found import FoundRun
from search.pages.judged import Judged, Score, corpus_of, crowd_groups, crowd_shares, judged_rows, reliability
from search.pages.markup import Html, Part, element, interval, interval_bar, number, plural, table
from search.parameters import short

#: Columns of a manifest that put people or clips into groups, with their headings.
GROUPS = (
    ("sex", "Sex"), ("age group", "Age"), ("race", "Race"), ("ethnicity", "Ethnicity"), ("sentence", "Sentence"),
    ("level", "Level asked for"),
)  # fmt: skip
_FEWEST_SPEAKERS = 5  # for an interval that means something
_VISIBLE_GAP = 0.02  # between what it says and how often it is right
_DEEP = 0.55  # share from which a cell is so dark that its text is white
_TITLES = ("", "", "UAR", "95 %", "speakers", "clips")


def model_views(run: FoundRun, rows: Sequence[Judged], missing: str) -> Html:
    """The section of a run's finalists.

    Args:
        run: whose
        rows: of its finalists' board, from :func:`finalists_of`
        missing: why the corpus is not at hand, empty where it is
    """
    board = run.finalists.to_dict("records") if run.finalists is not None else []
    roles: dict[str, dict[Any, Any]] = {str(told["name"]): told for told in board}
    order = sorted(rows, key=lambda row: int(roles.get(row.name, {"rank": 99}).get("rank", 99)))
    parts = [
        element("details", element("summary", _summary(row, roles.get(row.name, {}))), _views(row),
                open=place == 0, class_="model")
        for place, row in enumerate(order)
    ]  # fmt: skip
    notes: list[Part] = [
        "Probabilities are the mean over a row's trainings, so that its UAR here may differ a little from the board's, "
        "which is the mean of the trainings' UARs. Intervals: 95 %, bootstrap over speakers, where it does not say "
        "otherwise. Many groups are looked at here: one in twenty would stand out by chance."
    ]
    if missing:
        notes.append(f" Sex, age, sentence and the crowd's votes are not shown: {missing}.")
    files = [element("a", name, href=name) for name in ("predictions.csv",)]
    figures = [element("a", f"confusion_{figure_name(row)}{end}", href=f"figures/confusion_{figure_name(row)}{end}")
               for row in order[:1] for end in (".svg", ".png")]  # fmt: skip
    links = [part for link in (*files, *figures) for part in (link, ", ")][:-1]
    return element(
        "section",
        element("ul", [element("li", line) for line in run.verdicts], class_="notes verdicts"),
        element("p", notes, class_="note"),
        element("p", "Beside this page: ", links, "; one figure for each row in figures/.", class_="note"),
        parts,
    )


def figure_name(row: Judged) -> str:
    """The row's name in names of files."""
    return row.name.replace("/", "-")


def finalists_of(run: FoundRun) -> tuple[list[Judged], str]:
    """Clip by clip what a run's finalists said, and why the corpus is not at hand, if it is not."""
    if run.predictions is None:
        return [], ""
    data: dict[str, Any] | None = next((dict(one.data) for one in run.searches if one.data is not None), None)
    corpus, missing = corpus_of(data)
    return judged_rows(run.predictions, corpus), missing


def _summary(row: Judged, told: Mapping[Any, Any]) -> list[Part]:
    score = row.score()
    role = told.get("role", "")
    if isinstance(trainings := told.get("trainings"), int):
        role = f"{role}, {plural(trainings, 'training')}"
    return [element("b", row.name), f" {role}: test UAR ", element("b", number(score.value)), " ",
            element("small", interval(score.low, score.high))]  # fmt: skip


def _views(row: Judged) -> list[Html]:
    return [
        element("div", [_confusion(row), _recalls(row)], class_="pair"),
        element("div", [_reliability(row), _crowd(row)], class_="pair"),
        element("div", [*_groups(row), _speakers(row)], class_="groups"),
    ]


def confusion_title(row: Judged) -> str:
    """With the interval, as a paper wants it."""
    score = row.score()
    within = (
        "" if math.isnan(score.low) else f" (95 % over {score.speakers} speakers {interval(score.low, score.high)})"
    )
    return f"{row.name}: UAR {score.value:.3f}{within}"


def _confusion(row: Judged) -> Html:
    counts = row.confusion
    totals = counts.sum(axis=1)
    body = []
    for truth, name in enumerate(row.emotions):
        cells = []
        for said in range(len(row.emotions)):
            share = counts[truth, said] / totals[truth] if totals[truth] else 0.0
            kinds = [kind for kind, holds in (("right", truth == said), ("deep", share > _DEEP)) if holds]
            cells.append(
                element("td", element("b", f"{share:.0%}"), element("small", int(counts[truth, said])),
                        style=f"--share:{share:.3f}", class_=" ".join(kinds) or None)
            )  # fmt: skip
        body.append(element("tr", element("th", name, scope="row"), cells, element("td", int(totals[truth]))))
    head = element("tr", element("td", element("small", "meant ↓ said →")),
                   [element("th", name, scope="col") for name in row.emotions], element("th", "clips"))  # fmt: skip
    matrix = element("table", element("caption", confusion_title(row)), element("thead", head), element("tbody", body),
                     class_="confusion")  # fmt: skip
    return element("figure", element("figcaption", element("b", "Confusion matrix"), " Share of the clips of each "
                   "emotion, and their number."), element("div", matrix, class_="scroll", tabindex="0",
                   role="region", aria_label="confusion matrix"))  # fmt: skip


def _score_row(name: str, score: Score) -> list[Part]:
    few = score.speakers < _FEWEST_SPEAKERS and not math.isnan(score.low)
    bounds: Part = interval(score.low, score.high)
    if few:
        bounds = element("span", f"{bounds} *", title="few speakers: the interval is too narrow")
    return [name, interval_bar(score.value, score.low, score.high), number(score.value), bounds, score.speakers,
            score.clips]  # fmt: skip


def _recalls(row: Judged) -> Html:
    cells = [_score_row(name, row.recall(place)) for place, name in enumerate(row.emotions)]
    found = table(("emotion", "", "recall", "95 %", "speakers", "clips"), cells, caption="Recall of each emotion")
    return element("figure", element("figcaption", element("b", "Recall of each emotion")), found)


def _groups(row: Judged) -> list[Html]:
    found = []
    for column, title in GROUPS:
        if column not in row.clips:
            continue
        scores = list(row.groups(column))
        if len(scores) < 2:
            continue
        few = any(score.speakers < _FEWEST_SPEAKERS for _, score in scores)
        text = f" *: fewer than {_FEWEST_SPEAKERS} speakers, too few for an interval to hold." if few else ""
        found.append(
            element("figure", element("figcaption", element("b", title), text),
                    table((title, *_TITLES[1:]), [_score_row(value, score) for value, score in scores], caption=title))
        )  # fmt: skip
    return found


def _speakers(row: Judged) -> Html:
    about = [column for column in ("sex", "age") if column in row.clips]
    rows = []
    for name, score in row.speakers():
        first = row.clips[row.clips["speaker"].astype(str) == name].iloc[0]
        told = ", ".join(short(int(first[column]) if column == "age" else first[column]) for column in about
                         if first[column] == first[column])  # fmt: skip
        rows.append([f"{name} {told}".strip(), interval_bar(score.value, score.low, score.high), number(score.value),
                     interval(score.low, score.high), score.clips])  # fmt: skip
    return element(
        "figure",
        element("figcaption", element("b", "Speakers"), " Share of right clips, the lowest first; Wilson's interval "
                "over a speaker's own clips."),
        table(("speaker", "", "right", "95 %", "clips"), rows, caption="Speakers"),
    )  # fmt: skip


def _reliability(row: Judged) -> Html:
    found = reliability(row)
    traces = [
        {"x": [0, 1], "y": [0, 1], "mode": "lines", "line": {"color": "#888888", "dash": "dot"}, "hoverinfo": "skip",
         "name": "as it should be"},
        {"x": found.confidence, "y": found.accuracy, "mode": "lines+markers", "name": row.name,
         "marker": {"color": PALETTE[0], "size": [6 + 16 * math.sqrt(n / max(found.clips)) for n in found.clips]},
         "line": {"color": PALETTE[0]}, "text": [plural(count, "clip") for count in found.clips],
         "hovertemplate": "says %{x:.2f}, right %{y:.2f}<br>%{text}<extra></extra>"},
    ]  # fmt: skip
    axis = {"range": [0, 1.02]}
    sure = float(np.average(found.confidence, weights=found.clips))
    right = float(np.average(found.accuracy, weights=found.clips))
    lean = "as sure as it is right"
    if abs(sure - right) >= _VISIBLE_GAP:
        lean = "too sure of itself" if sure > right else "less sure of itself than it might be"
    return chart(
        traces,
        {"xaxis": {**axis, "title": {"text": "probability of what it says"}},
         "yaxis": {**axis, "title": {"text": "share that is right"}}, "showlegend": False},
        title="Reliability",
        text=f"Expected calibration error {found.error:.3f}: it says {sure:.2f} on average and is right in "
             f"{right:.2f}, {lean}. Larger dots: more clips.",
    )  # fmt: skip


def _crowd(row: Judged) -> Html:
    title = element("figcaption", element("b", "Where people disagree"))
    groups = crowd_groups(row)
    if not groups:
        return element("figure", title, element("p", "The corpus at hand has no votes of listeners.", class_="note"))
    shares = crowd_shares(row)
    heard = shares[np.arange(len(row.labels)), row.predictions]
    sure = row.probabilities.max(axis=1)
    rows: list[list[Part]] = []
    for name, chosen in groups:
        count = int(chosen.sum())
        if count:
            rows.append([name, count, f"{row.right[chosen].mean():.0%}", f"{(heard[chosen] > 0).mean():.0%}",
                         f"{sure[chosen].mean():.2f}", f"{row.uncertainty[chosen].mean():.2f}"])  # fmt: skip
    voted = ~np.isnan(shares).any(axis=1)
    own = shares[np.arange(len(row.labels)), row.labels]
    crowd = float(np.nanmean([own[voted & (row.labels == place)].mean() if (voted & (row.labels == place)).any()
                              else np.nan for place in range(len(row.emotions))]))  # fmt: skip
    wrong = voted & ~row.right
    alike = f"{(heard[wrong] > 0).mean():.0%} of its errors are what people hear too. " if wrong.any() else ""
    text = f"On these clips the crowd has, by voice alone, a UAR of {crowd:.3f}, the model {row.score().value:.3f}. "
    return element(
        "figure",
        element("figcaption", element("b", "Where people disagree"), " ", text, alike),
        table(("clips where", "clips", "right", "says what people hear", "probability", "uncertainty"), rows,
              caption="Where people disagree"),
    )  # fmt: skip
