"""HTML that data cannot break: every text is escaped, unless it is :class:`Html` already."""

import html
import math
from collections.abc import Iterable, Sequence

_VOID = {"br", "input"}
_CLOSED = {"line", "circle"}  # of SVG, which ends an element that has nothing in it with a slash
DASH = "–"


class Html(str):
    """HTML that is ready to be shown."""


Part = str | int | float | Html | None | Iterable["Part"]


def element(name: str, *parts: Part, **attributes: str | int | float | bool | None) -> Html:
    """One element.

    Args:
        name: of its tag
        parts: what is in it; None is passed over
        attributes: ``class_`` stands for ``class``, ``data_v`` for ``data-v``; True is an attribute without a value,
            None and False are none

    >>> element("p", "a < b", element("b", "c"), class_="note", hidden=True)
    '<p class="note" hidden>a &lt; b<b>c</b></p>'
    """
    told = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        title = key.rstrip("_").replace("_", "-")
        told.append(f" {title}" if value is True else f' {title}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(told)}{'/' if name in _CLOSED else ''}>"
    return Html(opening if name in _VOID | _CLOSED else f"{opening}{join(parts)}</{name}>")


def join(parts: Iterable[Part]) -> Html:
    """Parts one after the other."""
    return Html("".join(map(_ready, parts)))


def _ready(part: Part) -> str:
    if part is None:
        return ""
    if isinstance(part, Html):
        return part
    if isinstance(part, str | int | float):
        return html.escape(str(part))
    return join(part)


def number(value: float | None, digits: int = 3) -> str:
    """A score or another number for a person; a dash where there is none.

    >>> number(0.75), number(float("nan")), number(None)
    ('0.750', '–', '–')
    """
    return DASH if is_missing(value) else f"{value:.{digits}f}"


def is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def interval(low: float | None, high: float | None) -> str:
    """
    >>> interval(0.25, 0.5), interval(float("nan"), 0.5)
    ('0.250–0.500', '–')
    """
    return DASH if is_missing(low) or is_missing(high) else f"{low:.3f}–{high:.3f}"


def duration(seconds: float | None) -> str:
    """
    >>> duration(4.04), duration(75), duration(7260), duration(None)
    ('4.0 s', '1 min 15 s', '2 h 01 min', '–')
    """
    if seconds is None or math.isnan(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(value: float | None) -> str:
    """A large number, short.

    >>> counted(1234567), counted(21510), counted(900), counted(None)
    ('1.23 M', '21.5 k', '900', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def size(num_bytes: float | None) -> str:
    """
    >>> size(86_079_592), size(680_720), size(None)
    ('86.1 MB', '681 kB', '–')
    """
    if num_bytes is None or math.isnan(num_bytes):
        return DASH
    return f"{num_bytes / 1e6:.3g} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.3g} kB"


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "trial"), plural(2, "trial")
    ('1 trial', '2 trials')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def table(titles: Sequence[Part], rows: Iterable[Sequence[Part]], *, text: int = 1, caption: str = "") -> Html:
    """A plain table whose first *text* columns are words and whose others are numbers; wide ones scroll alone."""
    head = (element("th", title, scope="col", class_="text" if place < text else None)
            for place, title in enumerate(titles))  # fmt: skip
    body = [
        element(
            "tr",
            [
                element("th", cell, scope="row", class_="text") if place == 0
                else element("td", cell, class_="text" if place < text else None)
                for place, cell in enumerate(row)
            ],
        )
        for row in rows
    ]  # fmt: skip
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", list(head))),
            element("tbody", body),
            class_="plain",
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or "table",
    )


def interval_bar(value: float | None, low: float | None, high: float | None) -> Html | None:
    """A score with its interval on a line from 0 to 1, as a small picture that needs no script."""
    if is_missing(value):
        return None
    assert value is not None
    known = not (is_missing(low) or is_missing(high))
    told = f"{value:.3f}" + (f", interval {interval(low, high)}" if known else "")
    line = (element("line", x1=f"{(low or 0) * 100:.1f}%", x2=f"{(high or 0) * 100:.1f}%", y1="6", y2="6",
                    class_="range") if known else None)  # fmt: skip
    return element(
        "svg",
        element("line", x1="0%", x2="100%", y1="6", y2="6", class_="axis"),
        line,
        element("circle", cx=f"{value * 100:.1f}%", cy="6", r="3.6", class_="point"),
        class_="bar",
        role="img",
        aria_label=told,
    )
