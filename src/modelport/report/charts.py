"""What every chart has in common: its colours in both themes, its looks, and its description for those who do not see it.

Charts are made as Plotly figures in the light theme's colours; `page.js` draws them, and puts the dark theme's in their place.
The colours tell each other apart for the colour-blind (after Okabe and Ito) and stand out 3 : 1 from the page, as WCAG asks.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#B86E00", "#008F68", "#B0578D", "#3A8FC4", "#C44E00"
GREY, IDLE, TEXT, GRID, PAPER = "#7A848E", "#B9C1C9", "#3F4850", "#DDE2E7", "#FFFFFF"
DARK = {
    BLUE: "#74BEEF", ORANGE: "#F0B23E", GREEN: "#3FC79A", PINK: "#E39AC4", SKY: "#9AD3F5", RED: "#F79A66",
    GREY: "#8B96A1", IDLE: "#4A535D", TEXT: "#C9D1D9", GRID: "#323A42", PAPER: "#1D2227",
}  # fmt: skip
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
_HEIGHT = 380


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart for a page.

    Attributes:
        name: unique on the page; its element is `chart-NAME`.
        text: what it shows, in words.
        json: Plotly's figure, safe inside a script element.
        height: in pixels.
    """

    name: str
    text: str
    json: Markup
    height: int


def draw(figure: Any, name: str, text: str, *, y_title: str = "", **layout: Any) -> Chart:
    """A figure in the reports' style.

    Args:
        figure: a Plotly figure; strings that come from files went through `plain`.
        name: see Chart.
        text: see Chart.
        y_title: of the vertical axis.
        layout: more of Plotly's layout, such as `barmode` or `height`.
    """
    layout = {"height": _HEIGHT} | layout
    figure.update_layout(
        template="none",
        margin={"l": 56, "r": 16, "t": 20, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": TEXT, "family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        **layout,
    )
    axes = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GREY, "title_font_size": 12}
    figure.update_xaxes(title_standoff=6, **axes)
    figure.update_yaxes(title_standoff=6, **axes)
    if y_title:
        figure.update_yaxes(title_text=y_title)
    return Chart(name, text, script_json(figure.to_json()), layout["height"])


def script_json(text: str) -> Markup:
    """JSON that stays JSON inside a script element, whatever its strings hold."""
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def plain(text: str) -> str:
    """Text from files for a chart's labels: Plotly reads a little HTML in them, which this makes it show instead."""
    return html.escape(text, quote=False)


def series(count: int) -> list[str]:
    """As many colours, in order; after the last the first comes again."""
    return [SERIES[index % len(SERIES)] for index in range(count)]


def spread(values: list[float], low: list[float], high: list[float], **more: Any) -> dict[str, Any]:
    """Plotly's error bars from `low` to `high` around the values."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, end - value) for value, end in zip(values, high, strict=True)],
        "arrayminus": [max(0.0, value - end) for value, end in zip(values, low, strict=True)],
        "thickness": 1.5,
        "color": TEXT,
        **more,
    }
