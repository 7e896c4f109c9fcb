"""Two runs held against each other: did accuracy and speed change beyond noise?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..accuracy import pair
from ..errors import FormatError
from ..results import Accuracy, Interval
from ..results.history import AccuracyChange, AccuracyVerdict, Comparison, SpeedChange, TargetAccuracy
from .choices import Choices
from .loading import Loaded, load
from .place import place
from .speed import Noise, compare_speed, learnt_noise
from .store import environment_digest, open_history

ACCURACY_FALSE_ALARMS = (
    0.05  # of a whole comparison. Decisions of one model are the same every time, so in truth there are none
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """How to compare.

    Attributes:
        across_environments: compare runs of unlike machines and software all the same.
        noise: standard deviation of a median latency from run to run, as a fraction; None learns it from the history.
        history: the history's file; None does without.
    """

    across_environments: bool = False
    noise: float | None = None
    history: Path | None = None


def compare(a: Path | str, b: Path | str, *, options: CompareOptions | None = None) -> Comparison:
    """Compare two runs: A before, B after.

    Args:
        a, b: files or directories that commands wrote, or ids of the history.
        options: see CompareOptions; None is the user's own history, and its rules.

    Raises:
        FormatError: one of them is not there, their environments are unlike, or they have nothing in common.
    """
    options = options or CompareOptions(history=place())
    return compare_loaded(load(str(a), options.history), load(str(b), options.history), options)


def compare_loaded(a: Loaded, b: Loaded, options: CompareOptions) -> Comparison:
    """The same with what `load` found."""
    differences = _environments(a, b, options)
    speed, alone = _speed(a, b, options)
    accuracy, alone_targets = _accuracy(a, b)
    if not speed and not accuracy:
        raise FormatError(
            f"{a.label} and {b.label} have no configuration and no target in common: {_names(a)} there, {_names(b)} here"
        )
    return Comparison(
        a=a.label,
        b=b.label,
        differences=differences,
        speed=speed,
        accuracy=accuracy,
        notes=(*_notes(a, b), *alone, *alone_targets),
    )


def _environments(a: Loaded, b: Loaded, options: CompareOptions) -> tuple[str, ...]:
    ours, theirs = a.entry.environment, b.entry.environment
    found = ours.differences(theirs) if ours is not None and theirs is not None else []
    if found and not options.across_environments:
        raise FormatError(
            f"{a.label} and {b.label} were measured in unlike environments: {'; '.join(found)}; pass --across-environments to compare "
            "them all the same"
        )
    return tuple(found)


def _speed(a: Loaded, b: Loaded, options: CompareOptions) -> tuple[tuple[SpeedChange, ...], list[str]]:
    """Changes of the configurations that both have, and a note of the others."""
    before, after = ({speed.configuration: speed for speed in side.entry.speeds} for side in (a, b))
    both = [name for name in before if name in after]
    alone = [f"{name}: only in {'A' if name in before else 'B'}" for name in before.keys() ^ after.keys()]
    noises = _noises(b, both, options)
    found = (compare_speed(before[name], after[name], noises[name], len(both)) for name in both)
    changes = tuple(change for change in found if change is not None)
    return changes, sorted(alone) + [
        f"{name}: ran in {before[name].executed_precision} before, in {after[name].executed_precision} after"
        for name in both
        if before[name].executed_precision != after[name].executed_precision
    ]


def _noises(b: Loaded, configurations: Sequence[str], options: CompareOptions) -> dict[str, Noise]:
    """Noise from run to run of each configuration: as told, from B's earlier runs on B's machine, or assumed."""
    if options.noise is not None:
        return dict.fromkeys(configurations, Noise(options.noise))
    onnx, machine = b.entry.onnx_sha256, environment_digest(b.entry)
    if options.history is None or not options.history.is_file() or onnx is None or machine is None:
        return dict.fromkeys(configurations, Noise())
    with open_history(options.history) as history:
        return {
            name: learnt_noise(history.medians(name, onnx_sha256=onnx, environment=machine, without=b.identity))
            for name in configurations
        }


def _accuracy(a: Loaded, b: Loaded) -> tuple[tuple[AccuracyChange, ...], list[str]]:
    before, after = ({found.target: found for found in side.entry.accuracies} for side in (a, b))
    both = [name for name in before if name in after]
    alone = sorted(f"{name}: decided only in {'A' if name in before else 'B'}" for name in before.keys() ^ after.keys())
    measured = [_measure(before[name], after[name], a.choices.get(name), b.choices.get(name)) for name in both]
    return _holm([change for change in measured if change is not None], len(both)), alone


def _measure(
    before: TargetAccuracy, after: TargetAccuracy, was: Choices | None, now: Choices | None
) -> AccuracyChange | None:
    """What changed, before it is judged. None where one of them was not held against labels."""
    if before.accuracy is None or after.accuracy is None:
        return None
    paired = None
    if was is not None and now is not None and was.images == now.images and np.array_equal(was.labels, now.labels):
        paired = pair(was.first, now.first, now.labels, against="A")
    return AccuracyChange(
        target=after.target,
        before=before.accuracy.topn[0],
        after=after.accuracy.topn[0],
        paired=paired,
        interval=None if paired else difference_interval(before.accuracy, after.accuracy),
        p_limit=None,
        verdict="no change",
        reason="" if paired else _why_unpaired(was, now),
    )


def _why_unpaired(was: Choices | None, now: Choices | None) -> str:
    if was is None or now is None:
        return (
            "not paired, for the predictions of "
            + ("both" if was is now else "A" if was is None else "B")
            + " are not there"
        )
    return "not paired, for the images or their labels are not the same"


def difference_interval(before: Accuracy, after: Accuracy, comparisons: int = 1) -> Interval:
    """Interval of after − before, of Top1 of two independent samples (Newcombe 1998, method 10: from Wilson's intervals)."""
    from scipy.stats import binomtest

    level = 1 - ACCURACY_FALSE_ALARMS / comparisons
    p, q = before.topn[0], after.topn[0]
    (low_p, high_p), (low_q, high_q) = (
        binomtest(found.hits[0], found.images).proportion_ci(level, method="wilson") for found in (before, after)
    )
    return Interval(
        low=q - p - math.hypot(q - low_q, high_p - p),
        high=q - p + math.hypot(high_q - q, p - low_p),
    )


def _holm(changes: Sequence[AccuracyChange], comparisons: int) -> tuple[AccuracyChange, ...]:
    """Judge all paired tests together: the smallest p value against the strictest limit, until one is not below its own.

    The unpaired ones have intervals, which share nothing with them but the level.
    """
    tests = sorted((c.paired.p_value, number) for number, c in enumerate(changes) if c.paired is not None)
    limits: dict[int, float] = {}
    holds = True
    passed = set()
    for rank, (p_value, number) in enumerate(tests):
        limits[number] = ACCURACY_FALSE_ALARMS / (comparisons - rank)
        holds = holds and p_value < limits[number]
        if holds:
            passed.add(number)
    return tuple(_judged(change, limits.get(number), number in passed) for number, change in enumerate(changes))


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


def _notes(a: Loaded, b: Loaded) -> list[str]:
    notes = []
    if a.identity is not None and a.identity == b.identity:
        notes.append("A and B are the same entry")
    ours, theirs = a.entry.onnx_sha256, b.entry.onnx_sha256
    if ours is not None and theirs is not None and ours != theirs:
        notes.append(f"the ONNX files differ: {ours[:12]}… in A, {theirs[:12]}… in B")
    if a.entry.model and b.entry.model and (found := a.entry.model.preprocess.differences(b.entry.model.preprocess)):
        notes.append(f"the preprocessing differs: {'; '.join(found)}")
    return notes


def _names(side: Loaded) -> str:
    names = [*(s.configuration for s in side.entry.speeds), *(t.target for t in side.entry.accuracies)]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "nothing measured"
