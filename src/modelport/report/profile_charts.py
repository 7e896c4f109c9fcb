"""Charts of an operator profile: share by type, the longest operators, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..results.operators import Kind
from ..results.profile import Operator, ProfileResult
from .charts import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Chart, draw, plain, spread

_COLORS: dict[Kind, str] = {
    "convolution": BLUE, "matmul": SKY, "pooling": GREEN, "elementwise": PINK, "movement": RED, "other": GREY,
}  # fmt: skip
_DASHES = ("solid", "dash", "dot", "dashdot")
_NAME_LENGTH = 34


def types(result: ProfileResult, name: str = "types") -> Chart:
    """Share of the time by operator type, the largest on top, a colour per class of work; `name` is unique on a page."""
    from plotly import graph_objects as go

    figure = go.Figure()
    for kind, color in _COLORS.items():
        found = [each for each in result.types if each.kind == kind]
        if found:
            figure.add_bar(
                name=kind,
                orientation="h",
                y=[plain(each.type) for each in found],
                x=[each.share for each in found],
                text=[f"{each.share:.1%}" for each in found],
                textposition="outside",
                cliponaxis=False,
                customdata=[[each.count, each.total_us] for each in found],
                marker_color=color,
                hovertemplate="%{y}: %{x:.1%}, %{customdata[1]:,.0f} µs in %{customdata[0]}<extra>%{fullData.name}</extra>",
            )
    order = [plain(each.type) for each in reversed(result.types)]
    figure.update_xaxes(title="share of the operators' time", tickformat=".0%", range=[0, 1.2 * result.types[0].share])
    figure.update_yaxes(categoryorder="array", categoryarray=order, automargin=True)
    return draw(
        figure, name, "Bars of each operator type's share of the time", barmode="overlay", height=_rows(len(order))
    )


def longest(named: Mapping[str, Operator], name: str = "longest") -> Chart:
    """The longest operators, by what they are called, with their 10–90 % spread, and a mark at the least time that the machine allows."""
    from plotly import graph_objects as go

    figure = go.Figure()
    for kind, color in _COLORS.items():
        found = {called: each for called, each in named.items() if each.kind == kind}
        if found:
            figure.add_bar(
                name=kind,
                orientation="h",
                y=list(map(_short, found)),
                x=[each.duration_us for each in found.values()],
                marker_color=color,
                error_x=spread(
                    [each.duration_us for each in found.values()],
                    [each.p10_us for each in found.values()],
                    [each.p90_us for each in found.values()],
                ),
                text=[f"{plain(each.name)}<br>{plain(each.kernel)}" for each in found.values()],
                textposition="none",
                hovertemplate="%{text}<br>%{x:,.1f} µs<extra></extra>",
            )
    limited = {called: each for called, each in named.items() if each.limit_us is not None}
    if limited:
        figure.add_scatter(
            name="least time by the machine's peaks",
            mode="markers",
            y=list(map(_short, limited)),
            x=[each.limit_us for each in limited.values()],
            marker={"symbol": "line-ns-open", "size": 16, "color": ORANGE, "line": {"width": 3}},
            hovertemplate="at least %{x:,.1f} µs<extra></extra>",
        )
    order = [_short(called) for called in reversed(named)]
    longest_us = max((max(each.duration_us, each.limit_us or 0.0) for each in named.values()), default=1.0)
    figure.update_xaxes(title="µs", range=[0, 1.25 * longest_us])  # a disturbed round's spread is cut off
    figure.update_yaxes(categoryorder="array", categoryarray=order, automargin=True, tickfont={"size": 10})
    text = "Bars of the longest operators with their spread, and the least time that the machine allows"
    return draw(figure, name, text, barmode="overlay", height=_rows(len(order)))


def roofline(result: ProfileResult, name: str = "roofline") -> Chart:
    """Achieved operations a second against operations per byte, both logarithmic, under a roof for each precision in use."""
    from plotly import graph_objects as go

    points = [each for each in result.operators if each.flops and each.bytes and each.duration_us]
    figure = go.Figure()
    if result.peaks and points:
        _roofs(figure, result, [each.flops / each.bytes for each in points if each.flops and each.bytes])
    for kind, color in _COLORS.items():
        found = [each for each in points if each.kind == kind]
        if found:
            figure.add_scatter(
                name=kind,
                mode="markers",
                x=[each.flops / each.bytes for each in found if each.flops and each.bytes],
                y=[each.gflops for each in found],
                marker={"color": color, "size": [_size(each) for each in found], "opacity": 0.75, "line": {"width": 0}},
                text=[
                    f"{plain(each.name)}<br>{plain(each.type)}, {each.precision}, {each.duration_us:,.1f} µs"
                    for each in found
                ],
                hovertemplate="%{text}<br>%{y:,.1f} GFLOP/s at %{x:,.2f} FLOP/byte<extra></extra>",
            )
    figure.update_xaxes(title="estimated operations per byte", type="log", dtick=1, exponentformat="none")
    figure.update_yaxes(type="log", dtick=1, exponentformat="none")
    text = "Achieved operations a second against operations per byte of every operator, under the machine's roofs"
    return draw(figure, name, text, y_title="GFLOP/s", height=440)


def _roofs(figure: Any, result: ProfileResult, intensities: Sequence[float]) -> None:
    """The slope that memory sets, and above it the peak of each precision that an operator executes in."""
    assert result.peaks is not None
    used = {each.precision for each in result.operators if each.kind in ("convolution", "matmul")}
    roofs = {name: peak for name, peak in result.peaks.operations.items() if name in used} or result.peaks.operations
    low, bandwidth = min(intensities) / 2, result.peaks.bandwidth
    for dash, (name, peak) in zip(_DASHES, sorted(roofs.items(), key=lambda item: item[1]), strict=False):
        ridge = peak / bandwidth
        high = max(*intensities, ridge) * 2
        figure.add_scatter(
            name=f"roof in {name}: {peak / 1e9:,.0f} GFLOP/s",
            mode="lines",
            x=[low, ridge, high],
            y=[bandwidth * low / 1e9, peak / 1e9, peak / 1e9],
            line={"color": GREY, "dash": dash, "width": 2},
            hoverinfo="skip",
        )


def _rows(count: int) -> int:
    """Height of a chart with a bar in each of so many rows."""
    return max(200, 110 + 24 * count)


def _size(operator: Operator) -> float:
    """Diameter in pixels: the area is the share of the time."""
    return 6 + 60 * math.sqrt(operator.share)


def _short(name: str) -> str:
    return plain(name if len(name) <= _NAME_LENGTH else f"…{name[-_NAME_LENGTH + 1 :]}")
