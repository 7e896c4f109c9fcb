"""Tables of a sweep and a tuning, and the tuning's page."""

from __future__ import annotations

from ..results import Accuracy, Configuration, Measured, SweepResult, TuneResult
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
    from markupsafe import Markup

    from . import charts
    from .page import page

    return page(
        "tune.html.j2",
        result=result,
        verdict=tune_verdict(result),
        tables=[front_table(result), accuracy_table(result), sweep_table(result.sweep)],
        plotly=Markup(charts.library()),
        chart=Markup(charts.tradeoff(result)),
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
