"""Tables of an operator profile, and its page."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.profile import AGREEMENT, Island, Operator, ProfileResult, TypeTimes
from .rows import Table

TOP = 15
_NONE, _TIED = "—", "\u00a0"


def profile_verdict(result: ProfileResult) -> str:
    """Where the time goes, in a sentence or two."""
    first = result.types[0]
    text = f"{first.share:.0%} of the time is {first.type}"
    if not result.islands:
        return f"{text}; nothing only moves data."
    text += f"; {_us(result.moving_us)} ({result.moving_us / _total(result):.1%}) only moves data"
    if not result.recoverable_us:
        return f"{text}, and no known rewrite removes any of it."
    return f"{text}, of which known rewrites may save {_us(result.recoverable_us)} ({result.recoverable_us / _total(result):.1%})."


def accounting_table(result: ProfileResult) -> Table:
    """The operators' sum against the latency."""
    rows = [(f"{len(result.operators)} operators", _us(result.operators_us), _share(result.operators_us, result))]
    if result.latency_us is not None and result.overhead_us is not None:
        what = "between and around them" if result.origin == "measured" else "waiting between them"
        rows.append((what, _us(result.overhead_us), _share(result.overhead_us, result)))
        rows.append(("latency of a batch", _us(result.latency_us), _share(result.latency_us, result)))
    if result.counting_us is not None:
        rows.append(("latency with counters on", _us(result.counting_us), _share(result.counting_us, result)))
    return Table(
        "Sum and latency", ("", "median", "of the latency"), rows, frozenset({1, 2}), _accounting_notes(result)
    )


def _accounting_notes(result: ProfileResult) -> list[str]:
    threads = f", {result.threads} threads" if result.threads else ""
    size = f"batch {result.batch_size}, {result.executed_precision}"
    if result.origin == "msprof":
        return [f"From {result.where}: {_rounds(result)}, {size}. Latency: first start to last end."]
    notes = [
        f"{result.engine} {result.engine_version}, {size}{threads}, {result.input} input; {result.rounds} rounds with counters and "
        f"{result.rounds} without, in {result.blocks} turns, each after {result.warmup} of warmup."
    ]
    if result.counter_us > 0:
        notes.append(f"The counters lengthen each operator by {result.counter_us:.1f} µs, measured and taken off.")
    elif result.counter_us < 0:
        notes.append(f"The counters cut off fractions; their mean, {-result.counter_us:.1f} µs an operator, is added.")
    if result.coverage is not None and abs(result.coverage - 1) > AGREEMENT:
        notes.append(f"The operators add up to {result.coverage:.0%} of the latency: read their times with care.")
    if result.hygiene is not None and result.hygiene.busy:
        notes.append(f"The machine was busy: {result.hygiene.text}.")
    return notes


def types_table(result: ProfileResult) -> Table:
    """Time by operator type."""
    rows = [
        (each.type, each.kind, str(each.count), _figure(each.total_us), f"{each.share:.1%}",
         *(_figure(value) for value in (each.mean_us, each.min_us, each.max_us)), _type_limit(result, each))
        for each in result.types
    ]  # fmt: skip
    columns = ("type", "class", "count", "total µs", "share", "mean µs", "min", "max", "of its limit")
    return Table("By type", columns, rows, frozenset(range(2, 9)))


def _type_limit(result: ProfileResult, each: TypeTimes) -> str:
    limits = [operator.limit_us for operator in result.operators if operator.type == each.type]
    known = [value for value in limits if value is not None]
    return f"{sum(known) / each.total_us:.0%}" if len(known) == len(limits) and each.total_us else _NONE


def operators_table(result: ProfileResult, top: int = TOP) -> Table:
    """The most expensive operators."""
    rows = []
    for each in longest_operators(result, top):
        spread = f"{_figure(each.p10_us)}–{_figure(each.p90_us)}"
        shape = each.outputs[0].text.replace(" ", _TIED) if each.outputs else _NONE
        rows.append(
            (origin(each), each.type, each.kernel, str(each.precision or _NONE), shape, _figure(each.duration_us), spread,
             f"{each.share:.1%}", _optional(each.gflops, ",.0f"), _optional(each.gigabytes_s, ",.1f"),
             _limit(each))
        )  # fmt: skip
    columns = (
        "operator",
        "type",
        "kernel",
        "in",
        "result",
        "µs",
        "10–90 %",
        "share",
        "GFLOP/s",
        "GB/s",
        "of its limit",
    )
    return Table(f"Top {len(rows)} operators", columns, rows, frozenset(range(5, 11)), _limit_notes(result))


def _limit(operator: Operator) -> str:
    return _NONE if operator.limit_share is None else f"{operator.limit_share:.0%} {operator.bound}"


def origin(operator: Operator) -> str:
    """The first ONNX node that an operator computes and how many more; its own name where none is known."""
    if not operator.source:
        return operator.name
    return operator.source[0] + (f" +{len(operator.source) - 1}" if len(operator.source) > 1 else "")


def _limit_notes(result: ProfileResult) -> list[str]:
    if result.peaks is None:
        return [
            "GFLOP/s and GB/s are from estimated work; without the machine's peaks there is no limit to compare with."
        ]
    peaks = ", ".join(f"{value / 1e9:,.0f} GFLOP/s in {name}" for name, value in result.peaks.operations.items())
    return [
        f"Of its limit: the least time by the machine's measured peaks ({peaks}, {result.peaks.bandwidth / 1e9:.1f} GB/s, all cores) ÷ the "
        "time it takes. Over 100 % where data came from a cache, or the peaks were measured on a busier machine. Work is estimated "
        "from shapes."
    ]


def islands_table(result: ProfileResult, top: int = TOP) -> Table | None:
    """Data movement that computes nothing; islands of one pattern are one row."""
    groups: dict[tuple[str, str | None, str], list[Island]] = {}
    for island in result.islands:
        groups.setdefault((island.pattern, island.rewrite, island.reason), []).append(island)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: -_duration(item[1]))
    rows = [_island_row(result, key, found) for key, found in ordered[:top]]
    notes = [
        f"{len(result.islands)} islands, {_us(result.moving_us)} in all; with known rewrites {_us(result.recoverable_us)} can be "
        "saved at most. What a rewrite costs elsewhere is not in it: `modelport optimize` measures that. Names with underscores are "
        "its passes."
    ]
    if left := ordered[top:]:
        rest = sum(_duration(found) for _, found in left)
        notes.append(f"Not shown: {len(left)} more patterns, {_us(rest)}; profile.json has all.")
    columns = ("stands between", "operators", "times", "µs", "share", "rewrite", "such as")
    return Table("Data movement", columns, rows, frozenset({2, 3, 4}), notes)


def _island_row(result: ProfileResult, key: tuple[str, str | None, str], found: list[Island]) -> tuple[str, ...]:
    pattern, rewrite, reason = key
    first = found[0]
    total = _duration(found)
    example = first.source[0] if first.source else f"{(*first.after, 'input')[0]} → {(*first.before, 'output')[0]}"
    return (
        pattern, ", ".join(dict.fromkeys(first.types)), str(len(found)), _figure(total),
        f"{sum(island.share for island in found):.1%}", f"{rewrite or 'none'}: {reason}", example,
    )  # fmt: skip


def _duration(found: Sequence[Island]) -> float:
    return sum(island.duration_us for island in found)


def profile_tables(result: ProfileResult, top: int = TOP) -> list[Table]:
    """All tables, in order."""
    islands = islands_table(result, top)
    return [
        accounting_table(result),
        types_table(result),
        operators_table(result, top),
        *([islands] if islands else []),
    ]


def render_profile_html(result: ProfileResult) -> str:
    """The profile as one page that needs no network."""
    from . import profile_charts
    from .page import page

    return page(
        "profile.html.j2",
        result=result,
        title=result.model.arch if result.model else result.where,
        verdict=profile_verdict(result),
        tables=profile_tables(result, 2 * TOP),
        types_chart=profile_charts.types(result),
        operators_chart=profile_charts.longest({origin(each): each for each in longest_operators(result, TOP)}),
        roofline_chart=profile_charts.roofline(result) if result.peaks else None,
    )


def longest_operators(result: ProfileResult, top: int = TOP) -> list[Operator]:
    """Those that take the most time, the first of all first."""
    return sorted(result.operators, key=lambda each: -each.duration_us)[:top]


def _total(result: ProfileResult) -> float:
    return sum(each.total_us for each in result.types) or 1.0


def _share(value: float, result: ProfileResult) -> str:
    return f"{value / result.latency_us:.1%}" if result.latency_us else _NONE


def _rounds(result: ProfileResult) -> str:
    return f"{result.rounds} rounds" if result.rounds > 1 else "1 round"


def _us(value: float) -> str:
    return f"{value:,.0f} µs" if abs(value) >= 100 else f"{value:,.1f} µs"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}"


def _optional(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)
