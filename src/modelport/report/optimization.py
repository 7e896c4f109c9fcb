"""Tables of an optimisation: what became of every pass, and what the graph lost and gained. And its page."""

from __future__ import annotations

from ..results import OptimizationResult, PairedTiming, PassDecision
from .charts import GREEN, GREY, Chart, draw, spread
from .rows import Table

_WORDS = {"not-applicable": "does not apply", "refuted": "REFUTED", "failed": "FAILED"}
_MOST_REFUSED = 3


def optimization_verdict(result: OptimizationResult) -> str:
    """The outcome in one sentence."""
    what = f"{result.target} {result.precision}, batch {result.batch_size}"
    if not result.kept:
        return f"NOTHING KEPT for {what}: the output is {result.source} unchanged"
    names = ", ".join(result.kept)
    if result.total is None:
        return f"KEPT by rule for {result.target}: {names}; equal to {result.source}, and not measured"
    return f"KEPT for {what}: {names}; {result.total.text} in all"


def decisions_table(result: OptimizationResult) -> Table:
    """One row per pass, in the order in which they were tried."""
    speed = ("gain", "95 % interval") if result.measured else ()
    columns = ("pass", "sites", *speed, "largest difference", "", "why")
    rows = []
    for decision in result.decisions:
        gain = _gain(decision.timing) if result.measured else ()
        word = _WORDS.get(decision.outcome, decision.outcome)
        rows.append((decision.name, str(decision.sites or "—"), *gain, _difference(decision), word, decision.reason))
    if result.total is not None and len(result.kept) > 1:
        rows.append(("all that was kept", "", *_gain(result.total), "", "", "against the source"))
    return Table("Rewrites", columns, rows, frozenset(range(1, len(columns) - 2)), _notes(result))


def operators_table(result: OptimizationResult) -> Table | None:
    """Operators whose number changed; None where nothing was kept."""
    before, after = result.operators_before, result.operators_after
    changed = [kind for kind in {**before, **after} if before.get(kind, 0) != after.get(kind, 0)]
    if not changed:
        return None
    rows = [_operators(kind, before.get(kind, 0), after.get(kind, 0)) for kind in changed]
    rows.append(_operators("all operators", sum(before.values()), sum(after.values())))
    return Table("Operators", ("", "before", "after", "change"), rows, frozenset({1, 2, 3}))


def render_optimization_html(result: OptimizationResult) -> str:
    """The decisions as one page that needs no network."""
    from .page import page

    timed = any(decision.timing for decision in result.decisions)
    return page(
        "optimize.html.j2",
        library=timed,
        result=result,
        verdict=optimization_verdict(result),
        tables=[table for table in (decisions_table(result), operators_table(result)) if table is not None],
        chart=gains_chart(result) if timed else None,
    )


def _gain(timing: PairedTiming | None) -> tuple[str, str]:
    if timing is None:
        return "—", "—"
    low, high = timing.interval95
    return f"{_percent(timing.ratio)} %", f"{_percent(low)} … {_percent(high)} %"


def _difference(decision: PassDecision) -> str:
    parity = decision.parity
    if parity is None:
        return "—"
    return f"{parity.max_abs_error:.1e} ({parity.relative_error:.1e})" if parity.max_abs_error else "0"


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f}".replace("-", "−")


def _operators(what: str, before: int, after: int) -> tuple[str, str, str, str]:
    change = f"{after - before:+d}".replace("-", "−") if after != before else "0"
    return what, f"{before:,}", f"{after:,}", change


def _notes(result: OptimizationResult) -> list[str]:
    inputs = f"{result.noise_samples} random inputs" + (f" and {result.images} images" if result.images else "")
    notes = [
        f"{result.basis[0].upper()}{result.basis[1:]}.",
        f"Each rewrite was held against {result.source} in float32 on {inputs}, ONNX Runtime with its optimisations off. Largest "
        f"difference of a score, and as a share of the largest score: at most {result.tolerance:g} is accepted.",
    ]
    if result.measured:
        notes.append(
            "Gain: speed after ÷ before − 1, each on top of what was kept before it; median of the rounds and its 95 % interval."
        )
    timings = [decision.timing for decision in result.decisions if decision.timing] + (
        [result.total] if result.total else []
    )
    if busy := sum(timing.busy for timing in timings):
        notes.append(
            f"Others used the machine during {busy} of {len(timings)} timings, so their gains are doubtful: measure again."
        )
    for decision in result.decisions:
        if decision.refused:
            more = (
                f" (and {len(decision.refused) - _MOST_REFUSED} more)" if len(decision.refused) > _MOST_REFUSED else ""
            )
            notes.append(f"{decision.name}: {'; '.join(decision.refused[:_MOST_REFUSED])}{more}.")
    return notes


def gains_chart(result: OptimizationResult, name: str = "gains") -> Chart:
    """Gain of every timed pass with its interval; what was kept in green. `name` is unique on a page."""
    from plotly import graph_objects as go

    timed = [decision for decision in result.decisions if decision.timing][::-1]
    figure = go.Figure()
    for title, color, kept in (("kept", GREEN, True), ("not kept", GREY, False)):
        mine = [decision for decision in timed if (decision.outcome == "kept") is kept]
        gains = [(decision.timing.ratio - 1) * 100 for decision in mine if decision.timing]
        ends = [decision.timing.interval95 for decision in mine if decision.timing]
        figure.add_scatter(
            name=title,
            x=gains,
            y=[decision.name for decision in mine],
            mode="markers",
            marker={"color": color, "size": 11},
            error_x=spread(
                gains,
                [(low - 1) * 100 for low, _ in ends],
                [(high - 1) * 100 for _, high in ends],
                color=color,
            ),
            hovertemplate="%{y}: %{x:+.1f} %<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=0, line={"color": GREY})
    figure.update_xaxes(title="gain, % (95 % interval)")
    figure.update_yaxes(categoryorder="array", categoryarray=[decision.name for decision in timed], automargin=True)
    text = "Gain of every timed rewrite with its 95 % interval"
    return draw(figure, name, text, height=max(200, 110 + 28 * len(timed)))
