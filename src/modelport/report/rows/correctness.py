"""Accuracy: shares of images with their intervals, decisions against the source, and the gate."""

from __future__ import annotations

from collections.abc import Callable

from ...results import Accuracy, GateCheck, Paired, Parity, ReferenceAccuracy, RunResult
from .table import Table, percent

Called = Callable[[int], str]  # how a class is told, such as `ModelSpec.called`
_SHOWN = 10  # worst classes, and most confused pairs


def accuracy(result: RunResult) -> Table | None:
    """TopN with Wilson intervals: the source, each target, recorded and informational figures."""
    if not any(target.accuracy for target in result.targets):
        return None
    columns = ("", "images", *(f"top-{n}" for n in range(1, 6)), "top-1, 95 % interval")
    rows = []
    if result.source_name and result.source_accuracy:
        rows.append(_accuracy_row(f"{result.source_name} (source)", result.source_accuracy))
    rows += [_accuracy_row(target.name, target.accuracy) for target in result.targets if target.accuracy]
    if result.recorded:
        rows.append(_recorded_row(result.recorded, "recorded"))
    rows += [_recorded_row(item, "for information") for item in result.information]
    first = next(target.accuracy for target in result.targets if target.accuracy)
    return Table("Accuracy", columns, rows, frozenset(range(1, 8)), [denominator(first)])


def denominator(accuracy: Accuracy) -> str:
    """What the percentages are of."""
    parts = [f"Of {accuracy.images:,} labelled images, {accuracy.classes:,} classes"]
    if accuracy.missing:
        parts.append(f"{accuracy.missing:,} without a prediction counted as wrong (first: {accuracy.first_missing[0]})")
    if accuracy.failed:
        parts.append(f"{accuracy.failed:,} unreadable counted as wrong")
    if accuracy.not_requested:
        parts.append(f"{accuracy.not_requested:,} more labelled images were left out by the limit")
    if accuracy.extra:
        parts.append(f"{accuracy.extra:,} images without a label not counted (first: {accuracy.first_extra[0]})")
    return "; ".join(parts) + "."


def paired(result: RunResult) -> Table | None:
    """Decisions and scores held against the source's, image by image."""
    rows = [
        (target.name, *_paired_cells(target.paired), *_parity_cells(target.parity))
        for target in result.targets
        if target.paired
    ]
    if not rows:
        return None
    columns = (
        "target",
        "images",
        "changed",
        "lost",
        "gained",
        "McNemar p",
        "max error",
        "mean error",
        "cosine",
        "same top-1",
    )
    notes = [
        f"Against {result.source_name} on the same images.",
        "McNemar p: chance of a split this uneven if neither were better (exact, two-sided).",
    ]
    return Table("Decisions and scores against the source", columns, rows, frozenset(range(1, 10)), notes)


def gates(result: RunResult, *, failed: bool = False) -> Table:
    """Every check of every gate; or only those that failed."""
    rows = [
        (target.name, check.name, *_check_cells(check), "passed" if check.passed else "FAILED")
        for target in result.targets
        for check in target.gate.checks
        if not (failed and check.passed)
    ]
    return Table(
        "Gate", ("target", "check", "reference", "measured", "drop", "limit", ""), rows, frozenset({2, 3, 4, 5})
    )


def bad_images(result: RunResult) -> Table | None:
    """Images that could not be classified; the same for every target unless an engine failed on them."""
    rows = [(target.name, bad.key, bad.reason) for target in result.targets for bad in target.inference.bad_images]
    return Table("Images that could not be classified", ("target", "image", "reason"), rows) if rows else None


def _accuracy_row(name: str, accuracy: Accuracy) -> tuple[str, ...]:
    interval = accuracy.interval95[0]
    shares = [percent(share) for share in accuracy.topn] + ["—"] * (5 - len(accuracy.topn))
    return (name, f"{accuracy.images:,}", *shares, f"{interval.low * 100:.2f}–{interval.high * 100:.2f} %")


def _recorded_row(item: ReferenceAccuracy, kind: str) -> tuple[str, ...]:
    top5 = f"{item.top5:.2f} %" if item.top5 is not None else "—"
    return (f"{item.source} ({kind})", "", f"{item.top1:.2f} %", "—", "—", "—", top5, "")


def _paired_cells(paired: Paired | None) -> tuple[str, ...]:
    if paired is None:
        return ("—",) * 5
    return (f"{paired.images:,}", str(paired.changed), str(paired.lost), str(paired.gained), f"{paired.p_value:.3g}")


def _parity_cells(parity: Parity | None) -> tuple[str, ...]:
    if parity is None:
        return ("—",) * 4
    return (
        f"{parity.max_abs_error:.2e}",
        f"{parity.mean_abs_error:.2e}",
        f"{parity.cosine:.7f}",
        percent(parity.top1_agreement),
    )


def _check_cells(check: GateCheck) -> tuple[str, str, str, str]:
    if check.unit == "points":
        reference = "—" if check.reference is None else f"{check.reference:.2f} %"
        return reference, f"{check.measured:.2f} %", f"{check.drop:+.2f} points", f"{check.limit:g} points"
    return "—", f"{check.measured:.1e}", "", f"{check.limit:.0e}"


def matrix(name: str, found: Accuracy, called: Called = str) -> Table | None:
    """Images by their class and what they were taken for."""
    if not found.matrix:
        return None
    columns = ("class \\ taken for", *map(called, range(len(found.matrix))))
    rows = [
        (called(label), *(f"{count:,}" if count else "·" for count in row)) for label, row in enumerate(found.matrix)
    ]
    return Table(f"{name}: confusion", columns, rows, frozenset(range(1, len(columns))))


def worst_classes(name: str | None, found: Accuracy, called: Called = str) -> Table | None:
    """The classes with the smallest share of right images; none where nothing is wrong. `name` is the target's."""
    poor = [each for each in found.worst_classes if each.top1 < each.images][:_SHOWN]
    if not poor:
        return None
    rows = [
        (called(each.label), f"{each.images:,}", percent(each.top1 / each.images), percent(each.top5 / each.images))
        for each in poor
    ]
    notes = [] if found.mean_class_top1 is None else [f"Mean over classes: {percent(found.mean_class_top1)}."]
    return Table(
        _titled(name, "worst classes"), ("class", "images", "top-1", "top-5"), rows, frozenset({1, 2, 3}), notes
    )


def confused(name: str | None, found: Accuracy, called: Called = str) -> Table | None:
    """The classes that are most often taken for another. `name` is the target's."""
    rows = [(called(each.label), called(each.predicted), f"{each.images:,}") for each in found.most_confused[:_SHOWN]]
    columns = ("class", "taken for", "images")
    return Table(_titled(name, "most confused"), columns, rows, frozenset({2})) if rows else None


def _titled(name: str | None, what: str) -> str:
    return f"{name}: {what}" if name else what.capitalize()
