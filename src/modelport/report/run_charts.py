"""Charts of a run's report: accuracy with its intervals, speed by batch size, speed against accuracy, stages, confusion."""

from __future__ import annotations

import numpy as np

from ..results import Accuracy, BenchResult, RunResult, StageStats
from .charts import BLUE, GREEN, GREY, IDLE, ORANGE, PAPER, RED, Chart, draw, plain, series, spread
from .front import Point

_ROW = 34  # pixels that a row of a chart takes
_LABELLED = 20  # classes up to which a matrix has its figures in it


def accuracy(result: RunResult) -> Chart | None:
    """Top-1 of the source and of each target with its 95 % interval, and the recorded figure as a line."""
    from plotly import graph_objects as go

    found = [(target.name, target.accuracy, BLUE) for target in result.targets if target.accuracy]
    if not found:
        return None
    if result.source_name and result.source_accuracy:
        found.insert(0, (f"{result.source_name} (source)", result.source_accuracy, GREEN))
    figure = go.Figure()
    for name, top1, color in found[::-1]:
        low, high = top1.interval95[0].low * 100, top1.interval95[0].high * 100
        value = top1.topn[0] * 100
        figure.add_scatter(
            x=[value],
            y=[plain(name)],
            mode="markers+text",
            text=[f"{value:.2f} %"],
            textposition="top center",
            marker={"color": color, "size": 12},
            error_x=spread([value], [low], [high], thickness=2, width=8, color=color),
            hovertemplate=f"{plain(name)}: {value:.2f} % ({low:.2f}–{high:.2f})<extra></extra>",
        )
    if result.recorded:
        label = {"annotation_text": f"recorded {result.recorded.top1:g} %", "annotation_position": "bottom right"}
        figure.add_vline(x=result.recorded.top1, line={"color": RED, "dash": "dash"}, **label)
    figure.update_xaxes(title="top-1, %", tickangle=0, nticks=6)
    figure.update_yaxes(automargin=True, range=[-0.5, len(found) - 0.2])
    text = "Top-1 accuracy of the source and of each target with its 95 % interval"
    return draw(figure, "accuracy", text, showlegend=False, height=110 + 50 * len(found))


def throughput(result: RunResult) -> Chart | None:
    """Images a second by batch size, a group of bars per batch size, with the 10–90 % spread of rounds."""
    from plotly import graph_objects as go

    timed = [target for target in result.targets if target.performance]
    if not timed:
        return None
    figure = go.Figure()
    for color, target in zip(series(len(timed)), timed, strict=True):
        values = [bench.throughput for bench in target.performance]
        low, high = zip(*(bench.throughput_spread for bench in target.performance), strict=True)
        figure.add_bar(
            name=plain(target.name),
            x=_batches(target.performance),
            y=values,
            marker_color=color,
            error_y=spread(values, list(low), list(high)),
            hovertemplate="batch %{x}: %{y:,.1f} img/s<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title="batch size", type="category")
    figure.update_yaxes(rangemode="tozero")
    text = "Bars of images a second by batch size for each target, with the spread of the rounds"
    return draw(figure, "throughput", text, y_title="images a second", barmode="group")


def latency(result: RunResult) -> Chart | None:
    """Median latency of a batch by batch size, with the 10–90 % spread of rounds."""
    from plotly import graph_objects as go

    timed = [target for target in result.targets if target.performance]
    if not timed:
        return None
    figure = go.Figure()
    for color, target in zip(series(len(timed)), timed, strict=True):
        ends = [np.percentile(np.asarray(bench.latencies_s) * 1e3, [10, 50, 90]) for bench in target.performance]
        low, middle, high = (list(map(float, each)) for each in zip(*ends, strict=True))
        figure.add_scatter(
            name=plain(target.name),
            x=_batches(target.performance),
            y=middle,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"color": color, "size": 8},
            error_y=spread(middle, low, high, color=color),
            hovertemplate="batch %{x}: %{y:,.2f} ms<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title="batch size", type="category")
    figure.update_yaxes(type="log", exponentformat="none", dtick="D2" if _decades(result) < 2 else 1)
    text = "Median latency of a batch in milliseconds by batch size for each target, with the spread of the rounds"
    return draw(figure, "latency", text, y_title="ms per batch, logarithmic")


def tradeoff(points: list[Point]) -> Chart | None:
    """Speed against accuracy: a point per target, filled and named on the front, and the front as a line."""
    from plotly import graph_objects as go

    if len(points) < 2:
        return None
    figure = go.Figure()
    front = sorted((point for point in points if point.on_front), key=lambda point: point.speed)
    figure.add_scatter(
        name="Pareto front",
        x=[point.speed for point in front],
        y=[point.quality * 100 for point in front],
        mode="lines",
        line={"color": GREY, "dash": "dot", "shape": "vh"},
        hoverinfo="skip",
    )
    for color, point in zip(series(len(points)), points, strict=True):
        quality, (low, high) = point.quality * 100, point.interval
        figure.add_scatter(
            name=plain(point.name),
            x=[point.speed],
            y=[quality],
            mode="markers+text",
            text=[plain(point.name) if point.on_front else ""],
            textposition="top center",
            cliponaxis=False,
            marker={
                "color": color,
                "size": 13,
                "symbol": "circle" if point.on_front else "circle-open",
                "line": {"width": 2, "color": color},
            },
            error_y=spread([quality], [low * 100], [high * 100], color=color),
            hovertemplate="%{y:.2f} % at %{x:,.1f} img/s<extra>%{fullData.name}</extra>",
        )
    fastest, kind = max(point.speed for point in points), points[0]
    figure.update_xaxes(title="images a second", range=[0, 1.15 * fastest])
    figure.update_yaxes(ticksuffix=" %", automargin=True)
    text = f"{kind.quality_name} against {kind.speed_name} for each target, the Pareto front as a line"
    return draw(figure, "tradeoff", text, y_title=kind.quality_name, height=400)


def timeline(stages: tuple[StageStats, ...], limiting: str, name: str) -> Chart:
    """How long each stage's workers worked and waited, on the run's own clock; the limiting stage is marked."""
    from plotly import graph_objects as go

    figure = go.Figure()
    places = [
        f"<b>{plain(stage.name)} ◂ limits</b>" if stage.name == limiting else plain(stage.name) for stage in stages
    ]
    for color, title, key in (
        (BLUE, "working", "busy_s"),
        (IDLE, "waiting for input", "blocked_get_s"),
        (ORANGE, "waiting for output", "blocked_put_s"),
    ):
        figure.add_bar(
            name=title,
            orientation="h",
            y=places,
            x=[getattr(stage, key) / stage.workers for stage in stages],
            marker_color=color,
            customdata=[
                [stage.workers, getattr(stage, key) / (stage.workers * stage.wall_s or 1.0)] for stage in stages
            ],
            hovertemplate="%{x:.2f} s, %{customdata[1]:.0%} of the run, mean of %{customdata[0]} workers<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title="seconds", range=[0, stages[0].wall_s or None])
    figure.update_yaxes(categoryorder="array", categoryarray=places[::-1], automargin=True)
    text = f"Bars of each stage's working and waiting time from the start of the run to its end; {limiting} limits it"
    return draw(figure, name, text, barmode="stack", bargap=0.35, height=130 + _ROW * len(stages))


def confusion(accuracy: Accuracy, name: str) -> Chart | None:
    """Images by their class and the class that they were taken for: what is right in blue, what is wrong in red."""
    from plotly import graph_objects as go

    if not accuracy.matrix:
        return None
    counts = np.asarray(accuracy.matrix, dtype=float)
    classes, right = len(counts), np.eye(len(counts), dtype=bool)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = go.Figure()
    for where, color in ((right, BLUE), (~right & (counts > 0), RED)):
        shown = np.where(where, share, np.nan)
        labels = [
            [f"{int(count):,}" if here else "" for count, here in zip(*pair, strict=True)]
            for pair in zip(counts, where, strict=True)
        ]
        figure.add_heatmap(
            z=[[None if np.isnan(value) else float(value) for value in row] for row in shown],
            x=list(range(classes)), y=list(range(classes)), zmin=0,
            zmax=1 if color == BLUE else max(0.1, float(np.nanmax(shown)) if where.any() else 0.1),
            colorscale=[[0, PAPER], [1, color]], showscale=False, xgap=1, ygap=1,
            text=labels, texttemplate="%{text}" if classes <= _LABELLED else None, hoverongaps=False,
            hovertemplate="class %{y} taken for %{x}: %{text} images, %{z:.1%}<extra></extra>",
        )  # fmt: skip
    ticks = {"dtick": 1} if classes <= _LABELLED else {}
    figure.update_xaxes(title="taken for", side="bottom", showgrid=False, zeroline=False, constrain="domain", **ticks)
    figure.update_yaxes(
        autorange="reversed", showgrid=False, zeroline=False, scaleanchor="x", constrain="domain", **ticks
    )
    text = f"Matrix of {classes} classes: rows are the images' classes, columns what they were taken for"
    return draw(figure, name, text, y_title="class", height=460)


def _batches(performance: tuple[BenchResult, ...]) -> list[str]:
    return [str(bench.batch_size) for bench in performance]


def _decades(result: RunResult) -> float:
    """How many powers of ten the latencies span."""
    ms = [bench.latency_ms.p50 for target in result.targets for bench in target.performance]
    return float(np.log10(max(ms) / min(ms))) if ms and min(ms) > 0 else 0.0
