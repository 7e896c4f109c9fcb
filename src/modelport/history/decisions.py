"""Did the accuracy change beyond noise? Decisions paired image by image where they are there, else intervals of the counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..accuracy import pair
from ..results import Interval, Paired
from ..results.comparison import AccuracyChange, AccuracyVerdict
from ..results.history import TargetAccuracy
from .choices import Choices
from .loading import Loaded

FALSE_ALARMS = 0.05  # of a whole comparison. Decisions of one model are the same every time, so in truth there are none
Count = tuple[int, int]  # right ones, and images


def compare_accuracy(a: Loaded, b: Loaded) -> tuple[tuple[AccuracyChange, ...], list[str]]:
    """Changes of the targets that both have, and notes of what is not judged."""
    before, after = ({found.target: found for found in side.entry.accuracies} for side in (a, b))
    both = [name for name in before if name in after]
    notes = [
        f"{name}: decided only in {'A' if name in before else 'B'}" for name in sorted(before.keys() ^ after.keys())
    ]
    measured = []
    for name in both:
        was, now = a.choices.get(name), b.choices.get(name)
        change = _measure(name, (_count(before[name], was), _count(after[name], now)), was, now)
        if change is not None:
            measured.append(change)
        elif was is not None and now is not None and was.images == now.images:
            changed = int((was.first != now.first).sum())
            notes.append(f"{name}: without labels; decisions changed on {changed:,} of {len(now.first):,} images")
        if before[name].e2e and after[name].e2e:
            notes.append(
                f"{name}: {before[name].e2e:,.1f} → {after[name].e2e:,.1f} img/s from file to TopN; one figure each, so not judged"
            )
    return _holm(measured), notes


def _count(found: TargetAccuracy, choices: Choices | None) -> Count | None:
    """What was counted; where nobody did, of the decisions on labelled images. None without labels."""
    if found.accuracy is not None:
        return found.accuracy.hits[0], found.accuracy.images
    if choices is None or not (known := choices.labels >= 0).any():
        return None
    return int((choices.first == choices.labels)[known].sum()), int(known.sum())


def _measure(
    target: str, counts: tuple[Count | None, Count | None], was: Choices | None, now: Choices | None
) -> AccuracyChange | None:
    """What changed, before it is judged. None where one of them was not held against labels."""
    before, after = counts
    if before is None or after is None:
        return None
    paired = _pair(was, now)
    return AccuracyChange(
        target=target,
        before=before[0] / before[1],
        after=after[0] / after[1],
        paired=paired,
        interval=None if paired else difference_interval(before, after),
        p_limit=None,
        verdict="no change",
        reason="" if paired else _why_unpaired(was, now),
    )


def _pair(was: Choices | None, now: Choices | None) -> Paired | None:
    if was is None or now is None or was.images != now.images or not np.array_equal(was.labels, now.labels):
        return None
    return pair(was.first, now.first, now.labels, against="A")


def _why_unpaired(was: Choices | None, now: Choices | None) -> str:
    if was is not None and now is not None:
        return "not paired, for the images or their labels are not the same"
    whose = "both" if was is now else "A" if was is None else "B"
    return f"not paired, for the predictions of {whose} are not there"


def difference_interval(before: Count, after: Count) -> Interval:
    """95 % interval of after − before, of two independent samples (Newcombe 1998, method 10: from Wilson's intervals)."""
    from scipy.stats import binomtest

    p, q = before[0] / before[1], after[0] / after[1]
    (low_p, high_p), (low_q, high_q) = (
        binomtest(*count).proportion_ci(1 - FALSE_ALARMS, method="wilson") for count in (before, after)
    )
    return Interval(
        low=q - p - math.hypot(q - low_q, high_p - p),
        high=q - p + math.hypot(high_q - q, p - low_p),
    )


def _holm(changes: Sequence[AccuracyChange]) -> tuple[AccuracyChange, ...]:
    """Judge all paired tests together: the smallest p value against the strictest limit, until one is not below its own.

    The unpaired ones have intervals of their own.
    """
    tests = sorted((c.paired.p_value, number) for number, c in enumerate(changes) if c.paired is not None)
    limits: dict[int, float] = {}
    significant: set[int] = set()
    for rank, (p_value, number) in enumerate(tests):
        limits[number] = FALSE_ALARMS / (len(tests) - rank)
        if len(significant) == rank and p_value < limits[number]:
            significant.add(number)
    return tuple(_judged(change, limits.get(number), number in significant) for number, change in enumerate(changes))


def _judged(change: AccuracyChange, limit: float | None, significant: bool) -> AccuracyChange:
    if change.paired is not None:
        lost, gained = change.paired.lost, change.paired.gained
        verdict: AccuracyVerdict = ("lower" if lost > gained else "higher") if significant else "no change"
        reason = f"paired: {lost:,} lost, {gained:,} gained of {change.paired.images:,} images"
        reason += "" if lost == gained == 0 else f", p {change.paired.p_value:.2g} (limit {limit:.2g})"
    else:
        assert change.interval is not None
        low, high = change.interval.low, change.interval.high
        verdict = "lower" if high < 0 else "higher" if low > 0 else "no change"
        reason = f"{low * 100:+.2f} … {high * 100:+.2f} points; {change.reason}"
    return change.model_copy(update={"verdict": verdict, "reason": reason, "p_limit": limit})
