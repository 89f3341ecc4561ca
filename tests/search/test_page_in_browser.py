"""leaderboard.html in a Chromium without a window: it opens without a complaint, sorts, filters, opens a row."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.pages.page import write_page
from tests.search.boards import config_json
from tests.search.made_up_runs import add_finalists, judged_config, write_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser, or a skip with its reason."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is found: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox cannot be had by root, as in a container
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = driver.chromium.launch(executable_path=CHROMIUM, args=[*arguments, "--enable-unsafe-swiftshader"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory, prepared_tone_corpus: Path, whole_pages: None) -> Path:
    """The page of a search with finalists and of one on another split."""
    folder = tmp_path_factory.mktemp("browser")
    judged = write_run(folder / "judged", config=judged_config(prepared_tone_corpus))
    add_finalists(judged, prepared_tone_corpus)
    other = write_run(folder / "other", config=config_json(split="audeering"))
    assert write_page([judged, other], folder / "page.html") == []
    return folder / "page.html"


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Open]:
    """Opens the page; at the end nothing was complained of, and nothing asked of a network."""
    complaints: list[str] = []
    contexts = []

    def open_page(**settings: Any) -> Any:
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(("file:", "data:",
                "blob:")) else None)  # fmt: skip
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def shown(page: Any) -> list[str]:
    """Names of the rows that the first board shows, from the top."""
    names = page.locator("#board-0 tr.row:visible .opens").all_inner_texts()
    return [name.strip() for name in names]


def test_columns_sort_in_both_directions_with_unknown_values_last(opened: Open) -> None:
    page = opened()
    assert shown(page) == ["t0000", "t0003", "t0001", "ensemble", "SVM", "t0002"]
    head = page.locator("#board-0 th[data-name=test_uar] button")
    head.click()
    assert shown(page)[:3] == ["ensemble", "t0000", "SVM"]
    head.click()
    assert shown(page)[:3] == ["SVM", "t0000", "ensemble"]
    assert page.locator("#board-0 th[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_rows_are_found_by_any_word_and_by_status(opened: Open) -> None:
    page = opened()
    page.locator("[data-board=board-0] [data-find]").fill("crnn")  # of a configuration
    assert shown(page) == ["t0001"]
    page.locator("[data-board=board-0] [data-find]").fill("")
    page.locator("[data-board=board-0] [data-filter=status]").select_option("failed")
    assert shown(page) == ["t0002"]
    page.locator("[data-board=board-0] [data-filter=status]").select_option("")
    page.locator("[data-board=board-0] [data-only]").check()
    assert sorted(shown(page)) == ["SVM", "ensemble", "t0000"]
    assert page.locator("[data-board=board-0] output").inner_text() == "3 rows"


def test_a_row_opens_by_pointer_and_by_keyboard(opened: Open) -> None:
    page = opened()
    page.locator("#board-0 tr.row", has_text="t0001").locator("td").nth(4).click()
    assert page.locator("#board-0 tr.detail:visible").inner_text().count("rung 1: 0.333 < 0.500") == 1
    button = page.locator("#board-0 .opens", has_text="t0000")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    detail = page.locator("#board-0 tr.detail:visible", has_text="network").first
    assert "python search/run.py --space toy" in detail.inner_text() and "network" in detail.inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#board-0 tr.detail:visible").count() == 1


def test_every_chart_is_drawn_by_day_and_by_night(opened: Open) -> None:
    page = opened(color_scheme="dark")
    charts = page.locator("details[open] .chart, #main > div > section > .figures .chart")
    for place in range(charts.count()):
        charts.nth(place).scroll_into_view_if_needed()
        charts.nth(place).locator(".plot-container").wait_for(timeout=10_000)
    assert charts.count() > 5
    assert page.locator("text=WebGL is not supported").count() == 0
    ink = "el => getComputedStyle(el.querySelector('.xtick text') || el.querySelector('text')).fill"
    assert charts.first.evaluate(ink) == "rgb(230, 233, 236)"
    page.emulate_media(color_scheme="light")
    page.wait_for_function("() => document.querySelector('.chart .xtick text').style.fill === 'rgb(28, 32, 36)'")


def test_a_phone_shows_it_without_scrolling_sideways(opened: Open) -> None:
    page = opened(viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#board-0 th[data-name=val_uar]").is_visible()
    assert not page.locator("#board-0 th[data-name=parameters]").is_visible()
    page.locator("#board-0 .opens", has_text="t0000").click()
    assert "1.23 k" in page.locator("#board-0 tr.detail:visible").inner_text()  # parameters


def test_it_prints(opened: Open, tmp_path: Path) -> None:
    page = opened(color_scheme="dark")
    page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True)
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
