"""A run under LoadGen, as tables."""

from __future__ import annotations

from ..results import LoadGenResult
from .rows import Table, denominator, percent


def loadgen_tables(result: LoadGenResult) -> list[Table | None]:
    """The verdict with its reasons, latencies, and accuracy."""
    return [_summary(result), _latencies(result), _accuracy(result)]


def _summary(result: LoadGenResult) -> Table:
    rows = [("verdict", result.verdict), *_each("why", result.reasons)]
    if result.figure is not None:
        rows.append((result.figure.name, f"{result.figure.value:,.2f} {result.figure.unit}"))
    if result.queries is not None:
        rows.append(("answered", f"{_count(result.samples, 'sample')} in {_count(result.queries, 'query')}"))
    streams = f"{result.streams} {'stream' if result.streams == 1 else 'streams'}"
    threads = f", {result.threads} threads" if result.threads else ""
    rows += [
        ("images", f"{result.images:,} of {result.source}"),
        ("opened with", f"batch {result.batch_size}, {streams}{threads}"),
        ("LoadGen", result.loadgen_version),
        *_each("errors that it logged", result.errors),
        *_each("not as MLPerf asks", result.deviations),
    ]
    title = f"LoadGen {result.scenario}, {result.name}, runs in {result.executed_precision}"
    if result.quick:
        title += " (quick settings, unofficial)"
    notes = ["LoadGen's own verdict on this run; no result of MLPerf, which MLCommons publishes after a review."]
    if result.hygiene is not None and result.hygiene.busy:
        notes.append(f"The machine was busy: {result.hygiene.text}.")
    return Table(title, ("", ""), rows, notes=notes)


def _each(title: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """A row for each, titled once."""
    return [(title if place == 0 else "", text) for place, text in enumerate(texts)]


def _count(count: int | None, what: str) -> str:
    plural = "queries" if what == "query" else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def _latencies(result: LoadGenResult) -> Table | None:
    if not result.latency_ms:
        return None
    of = "query of 8" if result.scenario == "MultiStream" else "sample"
    note = ["In Offline a sample's latency counts from the one query's start."] if result.scenario == "Offline" else []
    names = tuple(result.latency_ms)
    row = tuple(f"{value:,.2f}" for value in result.latency_ms.values())
    return Table(f"Latency of a {of}, ms", names, [row], frozenset(range(len(names))), note)


def _accuracy(result: LoadGenResult) -> Table | None:
    found = result.accuracy
    if found is None:
        return None
    rows = [
        (f"top-{n}", percent(share), f"{interval.low * 100:.2f}–{interval.high * 100:.2f} %")
        for n, (share, interval) in enumerate(zip(found.topn, found.interval95, strict=True), start=1)
    ]
    return Table("Accuracy", ("", "share", "95 % interval (Wilson)"), rows, frozenset({1, 2}), [denominator(found)])
