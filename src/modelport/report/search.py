"""Tables of a sweep and a tuning, and the tuning's page."""

from __future__ import annotations

from typing import Any

from ..results import Accuracy, Configuration, Measured, SweepResult, TuneResult
from .charts import GREY, RED, Chart, draw, plain, series
from .rows import Table, percent

_SPEED_COLUMNS = ("img/s", "slowest–fastest", "p50 ms", "p90 ms")
_SPEED_NOTE = "Images a second: median of the repeats, and slowest and fastest. Latency: of a batch, over all repeats."


def sweep_table(result: SweepResult) -> Table:
    """One row per configuration, in the order of the sweep."""
    rows = [(*_knobs(found.configuration), *_speeds(found), _state(found)) for found in result.configurations]
    settings = result.subject.settings
    notes = [
        f"{_SPEED_NOTE} Each trial ran {settings.seconds:g} s in a process of its own, after {settings.warmup} batches of warmup.",
        *_doubts(result),
    ]
    return Table("Sweep", (*_KNOBS, *_SPEED_COLUMNS, ""), rows, frozenset(range(1, 8)), notes)


def tune_verdict(result: TuneResult) -> str:
    """The choice in one sentence."""
    if result.winner is None:
        return f"NOTHING FOUND: {result.problem}"
    speed = result.measured(result.winner).throughput
    return f"FOUND: {result.winner.text}: {speed:,.1f} img/s"


def front_table(result: TuneResult) -> Table:
    """The front of throughput against latency, fastest first, with accuracy."""
    rows = []
    for configuration in result.front:
        found, accuracy = result.measured(configuration), result.accuracy_of(configuration)
        loss = "—" if accuracy is None or accuracy.loss_points is None else f"{accuracy.loss_points:.2f}"
        mark = "chosen" if configuration == result.winner else ""
        rows.append((*_knobs(configuration), *_speeds(found), loss, mark))
    notes = [
        f"Goal: {result.goal.text}. No other configuration that keeps its accuracy is both faster and quicker to answer. {_SPEED_NOTE}"
    ]
    if result.winner is None:
        notes = [f"Goal: {result.goal.text}. Shown although nothing meets goal and floor. {_SPEED_NOTE}"]
    columns = (*_KNOBS, *_SPEED_COLUMNS, _loss_column(result), "")
    return Table("Pareto front", columns, rows, frozenset(range(1, 9)), [*notes, *_doubts(result.sweep)])  # fmt: skip


def accuracy_table(result: TuneResult) -> Table:
    """What the variants that could be on the front make of the images."""
    rows = [(f"{result.reference} (reference)", *_top(result.reference_accuracy), "", "", "")]
    for found in result.accuracies:
        changed = f"{found.paired.changed:,} of {found.paired.images:,}" if found.paired else "—"
        loss = "—" if found.loss_points is None else f"{found.loss_points:.2f}"
        rows.append(
            (
                found.variant,
                *_top(found.accuracy),
                changed,
                loss,
                found.problem or ("passed" if found.passed else "FAILED"),
            )
        )
    meaning = (
        "Points lost: the larger drop of top-1 and top-5 against the reference"
        if result.labelled
        else "No labels: decisions are compared with the reference's"
    )
    notes = [f"{meaning}; at most {result.max_drop_points:g} accepted. {result.images:,} images of {result.source}."]
    columns = ("", "top-1", "top-5", "changed decisions", _loss_column(result), "")
    return Table("Accuracy", columns, rows, frozenset(range(1, 5)), notes)


def render_tune_html(result: TuneResult) -> str:
    """The tuning as one page that needs no network."""
    from .page import page

    return page(
        "tune.html.j2",
        result=result,
        verdict=tune_verdict(result),
        tables=[front_table(result), accuracy_table(result), sweep_table(result.sweep)],
        chart=tradeoff_chart(result),
    )


def tradeoff_chart(result: TuneResult) -> Chart:
    """Throughput against p90 latency of everything that ran, a colour per variant; the front as a line, the winner as a star."""
    from plotly import graph_objects as go

    figure = go.Figure()
    variants = list(dict.fromkeys(found.configuration.variant for found in result.sweep.ran))
    for color, variant in zip(series(len(variants)), variants, strict=True):
        mine = [found for found in result.sweep.ran if found.configuration.variant == variant]
        _points(figure, mine, name=plain(variant), mode="markers", marker={"color": color, "size": 9})
    front = [result.measured(configuration) for configuration in result.front]
    _points(figure, front, name="front", mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
    if result.winner is not None:
        star = {"color": RED, "size": 16, "symbol": "star"}
        _points(figure, [result.measured(result.winner)], name="chosen", mode="markers", marker=star)
    if result.goal.latency_ms is not None:
        figure.add_vline(x=result.goal.latency_ms, line={"color": RED, "dash": "dash"})
    figure.update_xaxes(title="p90 latency of a batch, ms", rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    text = "Throughput against p90 latency of every configuration that ran, the front as a line"
    return draw(figure, "tradeoff", text, y_title="images a second")


def _points(figure: Any, found: list[Measured], **style: Any) -> None:
    if "hoverinfo" not in style:
        style["hovertemplate"] = "%{text}<br>%{y:,.1f} img/s, p90 %{x:,.2f} ms<extra></extra>"
    figure.add_scatter(
        x=[item.latency_ms.p90 for item in found if item.latency_ms],
        y=[item.throughput for item in found if item.latency_ms],
        text=[plain(item.configuration.text) for item in found if item.latency_ms],
        **style,
    )


_KNOBS = ("", "batch", "streams", "threads")


def _knobs(configuration: Configuration) -> tuple[str, ...]:
    threads = str(configuration.threads) if configuration.threads else "auto"
    return configuration.variant, str(configuration.batch_size), str(configuration.streams), threads


def _speeds(found: Measured) -> tuple[str, ...]:
    if found.throughput is None or found.throughput_spread is None or found.latency_ms is None:
        return ("—",) * 4
    low, high = found.throughput_spread
    ms = found.latency_ms
    return f"{found.throughput:,.1f}", f"{low:,.0f}–{high:,.0f}", f"{ms.p50:,.2f}", f"{ms.p90:,.2f}"


def _state(found: Measured) -> str:
    return "" if found.outcome == "ok" else f"{found.outcome}: {found.reason}"


def _doubts(result: SweepResult) -> list[str]:
    doubtful = sum(found.doubtful for found in result.configurations)
    trials = sum(len(found.throughputs) for found in result.configurations)
    return (
        [f"Others used the machine during {doubtful} of {trials} trials, so speeds are doubtful."] if doubtful else []
    )


def _loss_column(result: TuneResult) -> str:
    return "points lost" if result.labelled else "% of decisions changed"


def _top(accuracy: Accuracy | None) -> tuple[str, str]:
    return (percent(accuracy.topn[0]), percent(accuracy.topn[-1])) if accuracy else ("—", "—")
