"""Tables of the history: its list, one entry, a comparison and a gate, as text."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from ..printable import printable
from ..results.comparison import AccuracyChange, Comparison, PerformanceGate, SpeedChange
from ..results.history import HistoryRow, SpeedRow
from .rows import Table, percent


def entries_table(rows: Sequence[HistoryRow], place: str) -> Table:
    """All entries of a list."""
    columns = ("id", "started (UTC)", "kind", "name", "model", "best pure img/s", "top-1", "gate", "place")
    cells = [
        (
            row.short,
            when(row.started),
            row.kind,
            row.name,
            row.model or "—",
            best(row),
            top1(row),
            gate(row),
            row.place or "",
        )
        for row in rows
    ]
    notes = [f"{len(rows):,} entries of {place}, newest first."]
    if any(row.doubtful for row in rows):
        notes.append("(busy): others used the machine meanwhile, so the figure is doubtful.")
    return Table("History", columns, cells, frozenset({6}), notes)


def entry_tables(row: HistoryRow) -> list[Table]:
    """One entry."""
    facts = [
        ("id", row.id),
        ("started", row.started),
        ("kind", row.kind),
        ("name", row.name),
        ("model", row.model or "—"),
        ("gate", gate(row)),
        ("place", row.place or "—"),
        ("machine", row.machine or "—"),
    ]
    speeds = [(s.configuration, f"{s.throughput:,.1f}", _ms(s.median_ms), s.doubtful or "") for s in row.speeds]
    accuracies = [
        (
            a.target,
            "—" if a.top1 is None else percent(a.top1),
            "—" if a.top5 is None else percent(a.top5),
            "—" if a.images is None else f"{a.images:,}",
            "—" if a.e2e is None else f"{a.e2e:,.1f}",
            "—" if a.passed is None else "passed" if a.passed else "FAILED",
        )
        for a in row.accuracies
    ]
    columns = ("target", "top-1", "top-5", "images", "e2e img/s", "gate")
    return [
        Table("Entry", ("", ""), facts),
        Table("Accuracy", columns, accuracies, frozenset({1, 2, 3, 4})),
        Table("Pure inference", ("configuration", "img/s", "median ms", "doubtful"), speeds, frozenset({1, 2})),
    ]


def comparison_verdict(found: Comparison) -> str:
    """What a comparison says, in a sentence or two."""
    return f"{_accuracy_sentence(found.accuracy)} {_speed_sentence(found.speed)}"


def _accuracy_sentence(changes: Sequence[AccuracyChange]) -> str:
    if not changes:
        return "Accuracy: nothing to compare."
    changed = [
        f"{c.target} {'lost' if c.verdict == 'lower' else 'gained'} {abs(c.drop_points):.2f} points"
        for c in changes
        if c.changed
    ]
    return f"Accuracy: {'; '.join(changed) if changed else 'no change beyond noise'}."


def _speed_sentence(changes: Sequence[SpeedChange]) -> str:
    if not changes:
        return "Speed: nothing to compare."
    parts = []
    for verdict in ("slower", "faster"):
        mine = [c.slowdown for c in changes if c.verdict == verdict]
        if mine:
            worst = max(mine, key=abs)
            parts.append(f"{len(mine)} of {len(changes)} configurations {verdict}, by up to {abs(worst):.1%}")
    untold = sum(c.verdict in ("doubtful", "cannot tell") for c in changes)
    if untold < len(changes) and not parts:
        parts.append("no change beyond noise")
    if untold:
        parts.append(
            f"{untold} of {len(changes)} configurations cannot be told (the machine was busy, or too few rounds)"
        )
    return f"Speed: {'; '.join(parts)}."


def comparison_tables(found: Comparison) -> list[Table]:
    """Accuracy and speed, before and after."""
    accuracies = [
        (c.target, percent(c.before), percent(c.after), f"{0.0 - c.drop_points:+.2f}", c.verdict, c.reason)
        for c in found.accuracy
    ]
    speeds = [
        (
            c.configuration,
            _ms(c.before_ms),
            _ms(c.after_ms),
            f"{c.slowdown:+.1%}",
            f"{c.low:+.1%} … {c.high:+.1%}",
            c.verdict,
            c.reason,
        )
        for c in found.speed
    ]
    notes = [f"A: {found.a}. B: {found.b}.", *found.notes]
    if found.differences:
        notes.append(f"The environments differ: {'; '.join(found.differences)}.")
    columns = ("target", "top-1 A", "top-1 B", "points", "verdict", "why")
    names = ("configuration", "A, ms", "B, ms", "slower by", "interval", "verdict", "why")
    return [
        Table("Accuracy", columns, accuracies, frozenset({1, 2, 3})),
        Table("Speed: median latency of a batch", names, speeds, frozenset({1, 2, 3, 4}), _noise(found.speed)),
        Table("", ("",), [(note,) for note in notes]),
    ]


def _noise(changes: Sequence[SpeedChange]) -> list[str]:
    if not changes:
        return []
    if not any(c.noise for c in changes):
        return ["Measured again in turn: each interval holds at 95 %, and a change has to show twice."]
    low, high = min(c.noise for c in changes), max(c.noise for c in changes)
    spread = f"{low:.1%}" if f"{low:.1%}" == f"{high:.1%}" else f"{low:.1%} to {high:.1%}"
    source = "; ".join(dict.fromkeys(c.noise_source for c in changes if c.noise))
    notes = [
        f"Noise from run to run: a standard deviation of {spread} ({source}). The intervals hold together, at 99 %."
    ]
    if unlike := [abs(side) for c in changes for side in c.pace if side]:
        uneven = sum(any(c.pace) for c in changes)
        notes.append(
            f"The machine itself was not equally fast for {uneven} of {len(changes)} configurations (by up to {max(unlike):.0%}); "
            "their intervals hold that. --again measures in turn, which does not mind."
        )
    return notes


def gate_line(found: PerformanceGate) -> str:
    """The gate's verdict in one line."""
    if found.passed:
        allowed = f"{found.max_slowdown:.1%} slower"
        return f"passed: nothing in {found.comparison.b} is more than {allowed} than in {found.comparison.a}, or less accurate"
    first = found.failures[0]
    more = f" (and {len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
    return f"FAILED: {first.what}: {first.reason}{more}"


def render_gate_junit(found: PerformanceGate) -> str:
    """The gate as JUnit XML: a test case for each configuration and each target."""
    failed = {failure.what: failure.reason for failure in found.failures}
    cases = [("accuracy", c.target) for c in found.comparison.accuracy]
    cases += [("speed", c.configuration) for c in found.comparison.speed]
    suite = ElementTree.Element(
        "testsuite", name="modelport gate", tests=str(len(cases)), failures=str(len(failed)), errors="0", skipped="0"
    )
    for kind, what in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"modelport.gate.{kind}", name=printable(what))
        if what in failed:
            ElementTree.SubElement(case, "failure", message=printable(failed[what]))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def when(text: str) -> str:
    """A time as tables have it: to the minute."""
    return text[:16].replace("T", " ")


def best(row: HistoryRow) -> str:
    """The fastest configuration in words."""
    found: SpeedRow | None = row.best
    if found is None:
        return "—"
    return f"{found.throughput:,.1f} {found.configuration}{' (busy)' if found.doubtful else ''}"


def top1(row: HistoryRow) -> str:
    """Top1, of the worst to the best target."""
    known = sorted({f"{a.top1 * 100:.2f}" for a in row.accuracies if a.top1 is not None}, key=float)
    return f"{known[0]}{'–' + known[-1] if len(known) > 1 else ''} %" if known else "—"


def gate(row: HistoryRow) -> str:
    """The verdict as tables have it."""
    return {"passed": "passed", "failed": "FAILED", None: "—"}[row.verdict]


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"
