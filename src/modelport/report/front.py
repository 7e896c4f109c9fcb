"""Speed against accuracy over a run's targets, and which of them no other beats in both."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..results import RunResult, TargetResult
from .rows import Table, percent


@dataclass(frozen=True, slots=True)
class Point:
    """One target.

    Attributes:
        name: the target's.
        speed: images a second.
        quality: a share; what of is `quality_name`.
        interval: its 95 % interval; the share itself where there is none.
        speed_name, quality_name: what they are.
        on_front: no other is faster and at least as good, or better and at least as fast.
    """

    name: str
    speed: float
    quality: float
    interval: tuple[float, float]
    speed_name: str
    quality_name: str
    on_front: bool = False


def points(result: RunResult) -> list[Point]:
    """A point for each target, by top-1, or without labels by decisions that are the source's; empty without either."""
    targets = result.targets
    pure = all(target.best for target in targets)
    if all(target.accuracy for target in targets):
        found = [_by_accuracy(target, pure) for target in targets]
    elif all(target.paired and target.paired.images for target in targets):
        found = [_by_agreement(target, pure) for target in targets]
    else:
        return []
    return [replace(point, on_front=not any(_beats(other, point) for other in found)) for point in found]


def front_table(found: list[Point]) -> Table | None:
    """The points, fastest first."""
    if len(found) < 2:
        return None
    rows = [
        (point.name, f"{point.speed:,.1f}", percent(point.quality), "yes" if point.on_front else "")
        for point in sorted(found, key=lambda point: -point.speed)
    ]
    columns = ("target", f"{found[0].speed_name}, img/s", found[0].quality_name, "on the front")
    return Table("Speed against accuracy", columns, rows, frozenset({1, 2}))


def _by_accuracy(target: TargetResult, pure: bool) -> Point:
    assert target.accuracy is not None
    interval = target.accuracy.interval95[0]
    speed, name = _speed(target, pure)
    return Point(target.name, speed, target.accuracy.topn[0], (interval.low, interval.high), name, "top-1")


def _by_agreement(target: TargetResult, pure: bool) -> Point:
    assert target.paired is not None
    share = 1 - target.paired.changed / target.paired.images
    speed, name = _speed(target, pure)
    return Point(target.name, speed, share, (share, share), name, "decisions like the source's")


def _speed(target: TargetResult, pure: bool) -> tuple[float, str]:
    if pure and target.best:
        return target.best.throughput, "pure inference at the best batch size"
    return target.inference.e2e.throughput, "from file to TopN"


def _beats(one: Point, other: Point) -> bool:
    at_least = one.speed >= other.speed and one.quality >= other.quality
    return at_least and (one.speed > other.speed or one.quality > other.quality)
