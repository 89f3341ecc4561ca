"""Other people's figures on CREMA-D, under their own protocols: ``published.csv``, and how they stand on the page."""

from pathlib import Path

import pandas as pd

from search.pages.board_rows import Board
from search.pages.markup import Html, element, interval_bar, join, number

_FILE = Path(__file__).parent / "published.csv"
PEOPLE = "people by voice alone"  # a protocol of its own
_SIX = {"anger", "disgust", "fear", "happy", "neutral", "sad"}


def published() -> pd.DataFrame:
    """``protocol, speaker_independent, metric, system, value`` (a share) and ``source``; six emotions, CREMA-D."""
    table = pd.read_csv(_FILE)
    table["speaker_independent"] = table["speaker_independent"] == "yes"
    return table


def people() -> float:
    """Accuracy of the crowd that heard CREMA-D's clips and saw nothing."""
    table = published()
    return float(table.loc[table["protocol"] == PEOPLE, "value"].iloc[0])


def fits(board: Board) -> bool:
    """Whether the figures are of the board's corpus and emotions."""
    data = board.data
    return data["corpus"] == "crema_d" and not data.get("generated") and set(data.get("emotions", ())) == _SIX


def landmarks(board: Board) -> Html:
    """The board's own best scores beside its baselines and people, each a line."""
    lines: list[tuple[str, Html, Html | None]] = []
    best = board.best
    if best is not None:
        lines.append(_line(f"best trial {best['trial']}, validation", best["val_uar"], best["val_low"],
                           best["val_high"], "UAR"))  # fmt: skip
    winner = board.winner
    if winner is not None:
        lines.append(_line(f"winner {winner['trial']}, test", winner["test_uar"], winner["test_uar_low"],
                           winner["test_uar_high"], "UAR"))  # fmt: skip
    for row in (row for row in board.rows if row.is_baseline and row["val_uar"] is not None):
        lines.append(_line(f"baseline {row['trial']}, validation", row["val_uar"], row["val_low"], row["val_high"],
                           "UAR"))  # fmt: skip
    lines = list(dict.fromkeys(lines))  # several runs have one classical baseline
    emotions = len(board.data.get("emotions", ()))
    if fits(board):
        lines.append(_line(PEOPLE, people(), None, None, "accuracy"))
    if emotions:
        lines.append(_line("chance", 1 / emotions, None, None, "UAR"))
    return element(
        "div",
        element("h3", "For orientation"),
        element("table", element("tbody", [
            element("tr", element("th", name, scope="row", class_="text"), element("td", bar), element("td", told))
            for name, told, bar in lines
        ]), class_="plain landmarks"),
        class_="panel",
    )  # fmt: skip


def _line(name: str, value: float, low: float | None, high: float | None, metric: str) -> tuple[str, Html, Html | None]:
    told = join([element("b", number(value)), " ", element("small", metric)])
    return name, told, interval_bar(value, low, high)


def published_panel() -> Html:
    """The figures by protocol, apart from the board; what lets speakers leak is red."""
    table = published()
    groups = []
    for protocol, group in table[table["protocol"] != PEOPLE].groupby("protocol", sort=False):
        leaky = not bool(group["speaker_independent"].iloc[0])
        rows = [
            element("tr", element("th", row["system"], scope="row", class_="text"),
                    element("td", interval_bar(row["value"], None, None)), element("td", number(row["value"])),
                    element("td", row["metric"], class_="text"), element("td", row["source"], class_="text source"))
            for row in group.to_dict("records")
        ]  # fmt: skip
        head = element("th", str(protocol), element("b", " leaky") if leaky else None, colspan=5, scope="colgroup",
                       class_="text")  # fmt: skip
        groups.append(element("tbody", element("tr", head), rows, class_="leaky" if leaky else None))
    return element(
        "section",
        element("h2", "Published elsewhere", id="published"),
        element("p", "Other systems on CREMA-D, six emotions, each under its own protocol. No line is comparable with "
                     "the board, since clips, labels and speakers differ; those in red train and test on the same "
                     "speakers. Given for orientation alone.", class_="note"),
        element("div", element("table", join(groups), class_="plain published"), class_="scroll", tabindex="0",
                role="region", aria_label="published results"),
        class_="elsewhere",
    )  # fmt: skip
