"""A board as a table that can be sorted, filtered and opened row by row."""

from collections.abc import Sequence
from typing import Any

from search.gains import gains
from search.leaderboard import caption, leaderboard
from search.pages.board_columns import COLUMNS, Column, value_of, whole
from search.pages.board_rows import Board, Row
from search.pages.markup import Html, Part, element, is_missing, join, number
from search.parameters import short
from search.study import best_of

_ALIKE = ("run", "family", "space", "encoder")  # columns that go where all rows say the same
_MAYBE = ("val_roc_auc", "test_uar", "seeds", "gpu_seconds", "speed")  # columns that go where no row has a value
_FILTERS = ("run", "family", "space", "encoder", "status")


def board_table(board: Board, place: int) -> Html:
    """The board with its filters and captions.

    Args:
        board: with at least one row
        place: of the board on the page, from 0, for names that are used once
    """
    columns = [column for column in COLUMNS if _is_shown(column, board)]
    own = f"board-{place}"
    return join(
        [
            _warnings(board),
            _alike(board),
            _filters(board, own),
            element(
                "div",
                element(
                    "table",
                    element("caption", f"{board.title}: {len(board.trials)} trials"),
                    element("thead", _groups(columns), element("tr", [_head(column) for column in columns])),
                    element("tbody", [_rows(row, columns, f"{own}-{at}") for at, row in enumerate(board.rows)]),
                    class_="board leaky" if board.data.get("leaky") else "board",
                    id=own,
                ),
                class_="scroll",
                tabindex="0",
                role="region",
                aria_label=f"leaderboard of {board.title}",
            ),
            element("ul", [element("li", line) for line in captions(board)], class_="notes"),
        ]
    )


def captions(board: Board) -> list[str]:
    """What has to be known of the board, one sentence each, those that several runs share once."""
    lines: dict[str, list[str]] = {}  # with the searches that they are about
    searches = [(run, search) for run in board.runs for search in run.searches
                if search.data is not None and search.trials]  # fmt: skip
    for run, search in searches:
        own = leaderboard(search.trials.values(), search.config, baselines=search.baselines, ended=search.ended)
        config = {**search.config, **({"judged": run.config["judged"]} if "judged" in run.config else {})}
        told = [] if not search.ended else gains(
            best_of(search.trials.values()), search.baselines, search.config["data"]["val_totals"]
        )  # fmt: skip
        for line in (*caption(own, config), *told):
            lines.setdefault(line, []).append(run.name if len(run.searches) == 1 else f"{run.name}/{search.space}")
    shown = [line if len(whose) == len(searches) else f"{', '.join(whose)}: {line}" for line, whose in lines.items()]
    shown.append("A dash stands where nothing was measured. Size with ≈ is four bytes a parameter.")
    return [line.replace("what the finalists are worth on test is in finalists.md", "test scores are the finalists'")
            for line in shown]  # fmt: skip


def _warnings(board: Board) -> Part:
    found = []
    if board.data.get("leaky"):
        found.append(f"Split {board.data['split']} is leaky: the same speakers train and validate, so these scores say "
                     "nothing of people a model never heard.")  # fmt: skip
    if board.data.get("generated"):
        found.append("This speech is generated. Nothing that is measured on it says anything about people.")
    return [element("p", line, class_="warning", role="note") for line in found]


def _is_shown(column: Column, board: Board) -> bool:
    """Whether the table has the column: one that says the same of every row only takes room."""
    if column.name in _MAYBE:
        return bool(_different(column, board))
    return column.name not in _ALIKE or len(_different(column, board)) > 1


def _different(column: Column, board: Board) -> list[str]:
    """The values that a column's rows have, sorted."""
    return sorted({str(value) for row in board.rows if (value := value_of(row, column)) is not None})


def _alike(board: Board) -> Html | None:
    """What all rows have in common, in place of its columns."""
    told = [f"{column.title} {values[0]}" for column in COLUMNS
            if column.name in _ALIKE and len(values := _different(column, board)) == 1]  # fmt: skip
    lacking = [f"{column.group} {column.title}" if column.name == "test_uar" else column.title for column in COLUMNS
               if column.name in _MAYBE and not _is_shown(column, board) and column.name != "val_roc_auc"]  # fmt: skip
    sentences = [f"All rows: {', '.join(told)}."] if told else []
    sentences += [f"No row has: {', '.join(lacking)}."] if lacking else []
    return element("p", " ".join(sentences), class_="note") if sentences else None


def _filters(board: Board, own: str) -> Html:
    fields = []
    for name in _FILTERS:
        column = next(column for column in COLUMNS if column.name == name)
        values = _different(column, board)
        if len(values) > 1:
            options = [element("option", "all", value=""), *(element("option", value, value=value) for value in values)]
            fields.append(element("label", column.title, " ", element("select", options, data_filter=name)))
    if any(row["test_uar"] is not None for row in board.rows):
        fields.append(element("label", element("input", type="checkbox", data_only="test_uar"), " finalists only"))
    search = element("label", "find ", element("input", type="search", data_find=True, placeholder="cnn, t0012, lr…"))
    count = element("output", f"{len(board.rows)} rows", aria_live="polite")
    return element("form", search, fields, count, class_="filters", data_board=own)


def _groups(columns: Sequence[Column]) -> Html:
    """The headings above the headings."""
    cells: list[Html] = []
    spans: list[list[Any]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1][1] += 1
        else:
            spans.append([column.group, 1])
    for title, span in spans:
        cells.append(element("th", title, colspan=span, scope="colgroup") if title else element("td", colspan=span))
    return element("tr", cells, class_="groups")


def _head(column: Column) -> Html:
    return element(
        "th",
        element("button", column.title, type="button", title=column.help),
        scope="col",
        class_=_class(column),
        data_name=column.name,
        data_words=column.words,
        data_group=column.group or None,
        aria_sort="ascending" if column.name == "rank" else None,
    )


def _class(column: Column) -> str | None:
    return " ".join(filter(None, ("text" if column.words else "", "" if column.chief else "more"))) or None


def _rows(row: Row, columns: Sequence[Column], own: str) -> Html:
    """A row, and the one below it that opens."""
    cells = []
    for column in columns:
        value = value_of(row, column)
        content = column.show(row)
        if column.name == "trial":
            content = element(
                "button", content, type="button", class_="opens", aria_expanded="false", aria_controls=own
            )
        if column.name == "status":
            content = element("span", content, class_=f"status {row['status']}")
        cells.append(
            element("td", content, class_=_class(column), data_v=None if is_missing(value) else value)
        )  # fmt: skip
    kind = "row" + (" baseline" if row.is_baseline else "") + (" failed" if row["status"] == "failed" else "")
    kind += " judged" if row["test_uar"] is not None else ""
    told = {f"data_{name}": value_of(row, column) for name in _FILTERS
            for column in COLUMNS if column.name == name}  # fmt: skip
    return join(
        [
            element("tr", cells, class_=kind, **told),
            element("tr", element("td", _detail(row), colspan=len(columns)), class_="detail", id=own, hidden=True),
        ]
    )


def _detail(row: Row) -> Html:
    """What an opened row says."""
    facts: list[tuple[str, Part]] = [
        (f"{column.group} {column.title}".strip(), column.show(row))
        for column in COLUMNS
        if not column.chief and not (column.name == "val_roc_auc" and row["val_roc_auc"] is None)
    ]
    if row["best_epoch"] is not None:
        facts.append(("best epoch", whole("best_epoch")(row)))
    if row["origin"] is not None:
        facts.append(("proposed by" if row.config else "kind", str(row["origin"])))
    if row["test_uar"] is not None:
        facts += [("test accuracy", number(row["test_accuracy"])), ("test macro-F1", number(row["test_macro_f1"])),
                  ("sd over seeds", number(row["test_uar_sd"]))]  # fmt: skip
    if row["threads"] is not None:
        facts.append(("speed measured with", f"{row['threads']} threads, clips of 3 s"))
    parts: list[Part] = [_pairs(facts, "facts")]
    if row["reason"]:
        parts.insert(0, element("p", element("b", str(row["status"])), f": {row['reason']}"))
    if row.config:
        settings: list[tuple[str, Part]] = [(name, short(value)) for name, value in sorted(row.config.items())]
        parts += [element("h4", "Configuration"), _pairs(settings, "settings")]
    if row.command:
        parts += [
            element("h4", "Train it again"),
            element("pre", element("code", row.command), tabindex="0"),
            element("button", "copy", type="button", class_="copy"),
            element("p", _again(row), class_="note"),
        ]
    return element("div", parts, class_="opened")


def _again(row: Row) -> str:
    told = "Same configuration, data and generators: on the same kind of machine each epoch is this trial's."
    if row["status"] == "stopped":
        told += f" It was stopped after {row['epochs']}; the command goes on to the full length."
    return told + " Run it where the search was run: paths are as they were typed there."


def _pairs(pairs: Sequence[tuple[str, Part]], kind: str) -> Html:
    return element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in pairs],
                   class_=kind)  # fmt: skip
