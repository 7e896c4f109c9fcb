"""Charts of the HTML report, drawn by Plotly. Colours are from Okabe and Ito's set, which the colour-blind can tell apart."""

from __future__ import annotations

from typing import Any

from ..results import Measured, RunResult, TuneResult

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


def library() -> str:
    """Plotly's JavaScript, whole."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def throughput(result: RunResult) -> str:
    """Images a second by batch size, a group of bars per batch size, with the 10–90 % spread of rounds."""
    from plotly import graph_objects as go

    figure = go.Figure()
    for color, target in zip(_cycle(len(result.targets)), result.targets, strict=True):
        values = [bench.throughput for bench in target.performance]
        spread = [bench.throughput_spread for bench in target.performance]
        figure.add_bar(
            name=target.name,
            x=[f"batch {bench.batch_size}" for bench in target.performance],
            y=values,
            marker_color=color,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, high - value) for value, (_, high) in zip(values, spread, strict=True)],
                "arrayminus": [max(0.0, value - low) for value, (low, _) in zip(values, spread, strict=True)],
                "thickness": 1,
                "color": "#888",
            },
            hovertemplate="%{x}: %{y:,.1f} img/s<extra>%{fullData.name}</extra>",
        )
    return draw(figure, "throughput", "images a second", barmode="group")


def stages(result: RunResult) -> str:
    """How each stage's workers spent their time: working, waiting for input, waiting for output."""
    from plotly import graph_objects as go

    names = [stage.name for stage in result.targets[0].inference.stages]
    places = [[target.name for target in result.targets for _ in names], names * len(result.targets)]
    figure = go.Figure()
    for color, title, key in (
        ("#0072B2", "working", "busy_s"),
        ("#BBBBBB", "waiting for input", "blocked_get_s"),
        ("#E69F00", "waiting for output", "blocked_put_s"),
    ):
        shares = [
            getattr(stage, key) / (stage.workers * stage.wall_s) if stage.wall_s else 0.0
            for target in result.targets
            for stage in target.inference.stages
        ]
        figure.add_bar(
            name=title,
            x=places,
            y=shares,
            marker_color=color,
            hovertemplate="%{x}: %{y:.0%}<extra>%{fullData.name}</extra>",
        )
    figure.update_yaxes(tickformat=".0%")
    return draw(figure, "stages", "share of the workers' time", barmode="stack")


def tradeoff(result: TuneResult) -> str:
    """Throughput against p90 latency of everything that ran, a colour per variant; the front as a line, the winner as a star."""
    from plotly import graph_objects as go

    figure = go.Figure()
    variants = list(dict.fromkeys(found.configuration.variant for found in result.sweep.ran))
    for color, variant in zip(_cycle(len(variants)), variants, strict=True):
        mine = [found for found in result.sweep.ran if found.configuration.variant == variant]
        _points(figure, mine, name=variant, mode="markers", marker={"color": color, "size": 9})
    front = [result.measured(configuration) for configuration in result.front]
    _points(figure, front, name="front", mode="lines", line={"color": "#888", "dash": "dot"}, hoverinfo="skip")
    if result.winner is not None:
        star = {"color": "#D55E00", "size": 16, "symbol": "star"}
        _points(figure, [result.measured(result.winner)], name="chosen", mode="markers", marker=star)
    if result.goal.latency_ms is not None:
        figure.add_vline(x=result.goal.latency_ms, line={"color": "#D55E00", "dash": "dash"})
    figure.update_xaxes(title="p90 latency of a batch, ms", rangemode="tozero", gridcolor="rgba(128,128,128,0.25)")
    figure.update_yaxes(rangemode="tozero")
    return draw(figure, "tradeoff", "images a second")


def _points(figure: Any, found: list[Measured], **style: Any) -> None:
    if "hoverinfo" not in style:
        style["hovertemplate"] = "%{text}<br>%{y:,.1f} img/s, p90 %{x:,.2f} ms<extra></extra>"
    figure.add_scatter(
        x=[item.latency_ms.p90 for item in found if item.latency_ms],
        y=[item.throughput for item in found if item.latency_ms],
        text=[item.configuration.text for item in found if item.latency_ms],
        **style,
    )


def _cycle(count: int) -> list[str]:
    return [_COLORS[index % len(_COLORS)] for index in range(count)]


def draw(figure: Any, name: str, y_title: str, **layout: Any) -> str:
    """A figure in the report's style as HTML, without the library; `name` is unique on a page."""
    figure.update_layout(
        template="none",
        height=380,
        margin={"l": 64, "r": 16, "t": 16, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#777", "family": "system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "y": 1.12, "x": 0},
        **layout,
    )
    figure.update_yaxes(title=y_title, gridcolor="rgba(128,128,128,0.25)", zerolinecolor="rgba(128,128,128,0.5)")
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config=_CONFIG)
