"""Charts as plotly's dictionaries, put into the page as JSON that ``page.js`` draws when it comes into view.

Colours of text, axes and background are not in them: the page gives these, by day and by night.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.pages.markup import Html, element

# after Okabe and Ito, told apart with any kind of colour vision; their blue a little lighter, to show on black too
PALETTE = ("#1F83CC", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999", "#B8860B")
DASHES = ("solid", "dash", "dot", "dashdot")  # a second sign beside the colour
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "pentagon")
_DIGITS = 5  # of a number in a chart: nobody sees more, and they make a page large


def chart(
    traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], *, title: str, text: str = "", height: int = 340,
    wide: bool = False, min_width: int = 0,
) -> Html:  # fmt: skip
    """A chart with its heading and a sentence under it.

    Args:
        traces: plotly's
        layout: plotly's, without title and colours
        title: heading, and the chart's name for a screen reader
        text: what a reader has to know
        height: in CSS pixels
        wide: whether it takes the whole width of the page
        min_width: in CSS pixels; a narrower screen scrolls
    """
    figure = {"data": list(traces), "layout": {**layout, "height": height}}
    content = json.dumps(_rounded(figure), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element(
        "figure",
        element("figcaption", element("b", title), " ", text),
        element(
            "div",
            element(
                "div",
                class_="chart",
                role="img",
                aria_label=title,
                style=f"min-height:{height}px" + (f";min-width:{min_width}px" if min_width else ""),
            ),
            class_="scroll" if min_width else None,
            tabindex="0" if min_width else None,
        ),
        element("script", Html(content), type="application/json"),
        class_="wide" if wide else None,
    )


def label(text: object) -> str:
    """A text from data, for plotly, which takes some HTML for what it says."""
    return html.escape(str(text), quote=False)


def colour(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def _rounded(value: Any) -> Any:
    """Numbers that JSON takes, short ones; what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(name): _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
