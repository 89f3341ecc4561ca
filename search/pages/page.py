"""The page as a whole: one file, written in one step, that opens from disk, without a network."""

import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from search.pages.board_rows import Board, boards_of
from search.pages.board_table import board_table
from search.pages.confusion_files import write_confusion
from search.pages.found import FoundRun, FoundSearch, find_run
from search.pages.judged import write_predictions
from search.pages.markup import Html, Part, duration, element, interval, join, number, plural
from search.pages.model_views import finalists_of, model_views
from search.pages.parameter_views import importance, parallel_coordinates, slices, varying_parameters
from search.pages.provenance_view import provenance_view
from search.pages.published import fits, landmarks, published_panel
from search.pages.search_views import best_so_far, counts, learning_curves, pareto, rungs, side_by_side
from search.run_folder import write_atomically
from ser_data.errors import UserError

PAGE_FILE = "leaderboard.html"


def write_page(folders: Sequence[Path], path: Path) -> list[str]:
    """Build the page of one run or of several, and the files beside their finalists.

    Args:
        folders: the runs'
        path: of the page; replaced in one step

    Returns:
        what could not be shown, a sentence each

    Raises:
        UserError: none of the runs can be shown, or the page cannot be written
    """
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(find_run(folder))
            problems += runs[-1].problems
        except UserError as error:
            problems.append(str(error))
    if not runs:
        raise UserError(" ".join(problems))
    try:
        for run in runs:
            _write_finalists(run)
        text = page_of(runs, problems)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(
            f"{error.filename or path} cannot be written ({error.strerror}). Name another page with --out, in a folder "
            "that you may write to."
        ) from error
    return problems


def _write_finalists(run: FoundRun) -> None:
    rows, _ = finalists_of(run)
    if rows:
        write_predictions(run.folder, rows)
    for row in rows:
        write_confusion(run.folder, row)


def page_of(runs: Sequence[FoundRun], problems: Sequence[str], *, live: bool = False) -> str:
    """The page's text.

    Args:
        runs: at least one
        problems: what could not be read
        live: whether it looks for a newer one of itself while it is served
    """
    boards = boards_of(runs)
    sections: list[tuple[str, str, Html]] = []  # anchor, what the navigation calls it, content
    for place, board in enumerate(boards):
        sections.append((f"board-of-{place}", _board_title(board, boards), _board(board, place)))
    if any(fits(board) for board in boards):
        sections.append(("published", "Published elsewhere", published_panel()))
    several = len(runs) > 1
    for place, run in enumerate(runs):
        whose = f": {run.name}" if several else ""
        if run.num_trials:
            sections.append((f"search-{place}", f"Search{whose}", _search(run, f"How the search went{whose}")))
        rows, missing = finalists_of(run)
        if rows:
            content = join([element("h2", f"Finalists on test{whose}"), model_views(run, rows, missing)])
            sections.append((f"models-{place}", f"Finalists{whose}", content))
    origins = join([element("h2", "Where it comes from"), *map(provenance_view, runs)])
    sections.append(("origin", "Provenance", origins))
    title = _title(runs)
    navigation = element("nav", [element("a", name, href=f"#{anchor}") for anchor, name, _ in sections],
                         aria_label="sections")  # fmt: skip
    body = join(
        [
            element("header", element("h1", title), [_lead(run) for run in runs], _cards(boards), _problems(problems)),
            navigation,
            element("main", [element("div", content, id=anchor) for anchor, _, content in sections], id="main"),
        ]
    )
    return string.Template(_asset("page.html")).substitute(
        title=element("span", title)[6:-7],  # escaped, without the element
        style=_asset("page.css"),
        live=" data-live" if live else "",
        body=body,
        plotly=_plotly(),
        script=_asset("page.js"),
    )


def _asset(name: str) -> str:
    return resources.files("search.pages").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _title(runs: Sequence[FoundRun]) -> str:
    if len(runs) > 1:
        return f"Leaderboard of {len(runs)} runs"
    arguments = runs[0].config["arguments"]
    return f"Leaderboard: {arguments['space'].replace(',', ', ')}"


def _lead(run: FoundRun) -> Html:
    told = [f"{search.space}: {counts(search.trials, ended=search.ended)}" for search in run.searches]
    endings = dict.fromkeys(search.ending or "it is not finished" for search in run.searches)
    ended = ", ".join(endings)
    state = ended if ended == "it is not finished" else f"ended by {ended}"
    return element("p", element("b", run.name), f" · {'; '.join(told)} · {duration(run.seconds)} · {state}",
                   class_="lead")  # fmt: skip


def _cards(boards: Sequence[Board]) -> Part:
    """The few numbers that a colleague asks for first; of one board alone."""
    if len(boards) != 1 or boards[0].best is None:
        return None
    board, best = boards[0], boards[0].best
    cards: list[tuple[str, str, str]] = [
        (f"best validation UAR, {best['trial']}", number(best["val_uar"]), interval(best["val_low"], best["val_high"]))
    ]
    winner = board.winner
    if winner is not None:
        within = interval(winner["test_uar_low"], winner["test_uar_high"])
        cards.append((f"on test speakers, {winner['trial']}", number(winner["test_uar"]), within))
    cards.append(("trials", str(len(board.trials)), plural(len(board.runs), "run")))
    actors = board.data.get("actors", {})
    cards.append(("speakers that validate", str(actors.get("validation", "–")), f"split {board.data['split']}"))
    return element("div", [element("div", element("span", name), element("b", value), element("span", small),
                                   class_="card") for name, value, small in cards], class_="cards")  # fmt: skip


def _problems(problems: Sequence[str]) -> Part:
    if not problems:
        return None
    return element("div", element("b", "Not everything could be shown"), element("ul", [element("li", line) for line in
                   problems]), class_="problems", role="note")  # fmt: skip


def _board_title(board: Board, boards: Sequence[Board]) -> str:
    return "Board" if len(boards) == 1 else f"Board: {board.title.partition(', ')[2]}"


def _board(board: Board, place: int) -> Html:
    title = element("h2", f"Board: {board.title}", class_="leaky" if board.data.get("leaky") else None)
    if not board.rows:
        return join([title, element("p", "No trial yet.")])
    return join([title, board_table(board, place), landmarks(board)])


def _search(run: FoundRun, title: str) -> Html:
    several = len(run.searches) > 1
    parts: list[Part] = [
        element("h2", title),
        element("div", best_so_far(run), pareto(run), side_by_side(run) if several else None, class_="figures"),
    ]
    for place, search in enumerate(run.searches):
        if not search.trials:
            continue
        if several:
            parts.append(element("details", element("summary", search.space), _space(search), open=place == 0,
                                 class_="space"))  # fmt: skip
        else:
            parts.append(_space(search))
    return join([element("section", parts)])


def _space(search: FoundSearch) -> Html:
    weights, first = importance(search)
    names = varying_parameters(search, first)
    each = slices(search, names)
    return join(
        [
            element("div", learning_curves(search), rungs(search), weights, parallel_coordinates(search, names),
                    class_="figures"),
            element("h3", "Score by parameter") if each else None,
            element("p", "Best score of each trial. Circles ran to their end, crosses were stopped.", class_="note")
            if each else None,
            element("div", each, class_="figures small"),
        ]
    )  # fmt: skip
