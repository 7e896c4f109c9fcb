"""The report as one HTML page that needs no network: styles, charts and the plotting library are inside."""

from __future__ import annotations

from markupsafe import Markup

from ..results import RunResult
from . import charts, inside, rows
from .page import page


def render_html(result: RunResult) -> str:
    """The whole report as a self-contained page."""
    return page(
        "report.html.j2",
        result=result,
        rows=rows,
        plotly=Markup(charts.library()),
        throughput_chart=Markup(charts.throughput(result)),
        stages_chart=Markup(charts.stages(result)),
        inside=inside,
        markup=Markup,
    )
