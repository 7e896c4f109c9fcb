"""The report as one HTML page that needs no network: styles, charts and the plotting library are inside."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..results import RunResult
from . import charts, inside, rows


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


def page(template: str, **values: Any) -> str:
    """A template filled in. Everything that comes from files is escaped."""
    environment = Environment(
        loader=PackageLoader("modelport.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
