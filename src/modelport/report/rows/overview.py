"""The verdict, and a row for each target."""

from __future__ import annotations

from typing import Literal

from ...results import Accuracy, Gate, RunResult, TargetResult
from .correctness import denominator
from .machine import uneven, watched
from .table import Table, percent


def outcome(result: RunResult) -> Literal["passed", "FAILED", "no verdict"]:
    """The outcome in a word or two."""
    if not result.passed:
        return "FAILED"
    return "passed" if any(target.gate.checks for target in result.targets) else "no verdict"


def verdict(result: RunResult) -> str:
    """The outcome in one sentence."""
    if outcome(result) == "FAILED":
        failed = [target.name for target in result.targets if not target.gate.passed]
        return f"FAILED: {', '.join(failed)} did not pass {'its gate' if len(failed) == 1 else 'their gates'}"
    if outcome(result) == "no verdict":
        return "NO VERDICT: nothing to hold the targets against (no labels, no source run, no recorded accuracy)"
    kept = f"all {len(result.targets)} targets" if len(result.targets) > 1 else result.targets[0].name
    return f"PASSED: {kept} kept what the source can do"


def summary(result: RunResult) -> Table:
    """One row per target: accuracy, what changed, parity, best speed, verdict."""
    columns = (
        "target",
        "runs in",
        "top-1",
        "top-5",
        "lost / gained",
        "relative error",
        "best pure img/s",
        "e2e img/s",
        "gate",
    )
    rows = []
    if result.source_name:
        top1, top5 = _top(result.source_accuracy)
        rows.append((f"{result.source_name} (source)", "f32", top1, top5, "", "", "", "", ""))
    for target in result.targets:
        top1, top5 = _top(target.accuracy)
        best = target.best
        rows.append(
            (
                target.name,
                target.runs_in,
                top1,
                top5,
                f"{target.paired.lost} / {target.paired.gained}" if target.paired else "—",
                f"{target.parity.relative_error:.1e}" if target.parity else "—",
                f"{best.throughput:,.1f} at batch {best.batch_size}" if best else "—",
                f"{target.inference.e2e.throughput:,.1f}",
                _gate_word(target.gate),
            )
        )
    return Table("Summary", columns, rows, frozenset(range(2, 8)), _summary_notes(result))


def _summary_notes(result: RunResult) -> list[str]:
    notes = []
    accuracy = next((target.accuracy for target in result.targets if target.accuracy), None)
    if accuracy:
        notes.append(denominator(accuracy))
    if result.random_weights:
        notes.append("Random weights: the speed is real, accuracy and decisions mean nothing.")
    if any(target.paired for target in result.targets):
        notes.append(f"Lost / gained: images right by {result.source_name} and wrong here / the other way round.")
    if any(target.parity for target in result.targets):
        notes.append("Relative error: largest score difference from the source, as a share of its largest score.")
    notes += [f"{target.name}: quantised by {target.calibration}." for target in result.targets if target.calibration]
    notes += [_fast(target) for target in result.targets if target.inference.fast_check]
    return notes + disturbed(result)


def _fast(target: TargetResult) -> str:
    check = target.inference.fast_check
    assert check is not None
    return (
        f"{target.name}: images were prepared fast; against the exact path, on {check.images:,} of them, pixels differ by at most "
        f"{check.largest_difference} of 255 and {check.changed:,} decisions changed."
    )


def disturbed(result: RunResult, *, example: bool = True) -> list[str]:
    """A note where others disturbed any measurement, with the first of them unless `example` is off; another where the machine itself
    was not equally fast in all of them."""
    measured = watched(result)
    busy = [f"{name}, {what}: {found.text}" for name, what, found in measured if found is not None and found.busy]
    notes = []
    if busy:
        first = f" (first: {busy[0]})" if example else ""
        notes.append(
            f"The machine was busy in {len(busy)} of {len(measured)} measurements, so the speeds are doubtful{first}."
        )
    return notes + uneven(found for _, _, found in measured)


def _gate_word(gate: Gate) -> str:
    """The gate in a word."""
    return ("passed" if gate.passed else "FAILED") if gate.checks else "no checks"


def _top(accuracy: Accuracy | None) -> tuple[str, str]:
    return (percent(accuracy.topn[0]), percent(accuracy.topn[-1])) if accuracy else ("—", "—")
