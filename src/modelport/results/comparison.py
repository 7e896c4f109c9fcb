"""What a comparison of two runs says, and the gate that rests on it."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from .accuracy import Interval, Paired
from .base import Result

SpeedVerdict = Literal["no change", "slower", "faster", "doubtful", "cannot tell"]
AccuracyVerdict = Literal["no change", "lower", "higher"]


class SpeedChange(Result):
    """One configuration's median latency in two runs.

    Attributes:
        before_ms, after_ms: median latency of a batch, milliseconds.
        slowdown: after ÷ before, less 1: 0.1 is 10 % slower, negative is faster.
        low, high: its interval, at a level at which all intervals of the comparison hold together.
        noise: standard deviation from run to run that it reckons with, as a fraction.
        noise_source: where that comes from, in words.
        pace: how much slower the machine itself was after than before, as fractions: at least (0, or negative) and at most; both 0
            where it was the same, or nobody looked. The interval holds what is true if that did not touch the model, and if it did.
        overlap: whether the middle halves of the two runs' rounds overlap.
        reason: what the verdict rests on.
    """

    configuration: str
    before_ms: float
    after_ms: float
    slowdown: float
    low: float
    high: float
    noise: float
    noise_source: str
    pace: tuple[float, float] = (0.0, 0.0)
    overlap: bool
    verdict: SpeedVerdict
    reason: str

    @computed_field
    @property
    def changed(self) -> bool:
        """Whether it changed beyond noise."""
        return self.verdict in ("slower", "faster")


class AccuracyChange(Result):
    """One target's Top1 in two runs.

    Attributes:
        before, after: Top1, fractions.
        paired: decisions image by image (exact McNemar test); None where the predictions of the same images are not there.
        interval: of the difference after − before where it is not paired (Newcombe 1998, method 10).
        p_limit: what the paired test's p value has to be below: all tests of the comparison hold together (Holm 1979).
        reason: what the verdict rests on.
    """

    target: str
    before: float
    after: float
    paired: Paired | None
    interval: Interval | None
    p_limit: float | None
    verdict: AccuracyVerdict
    reason: str

    @computed_field
    @property
    def drop_points(self) -> float:
        """Percentage points lost; negative where some were gained."""
        return (self.before - self.after) * 100

    @computed_field
    @property
    def changed(self) -> bool:
        """Whether it changed beyond noise."""
        return self.verdict != "no change"


class Comparison(Result):
    """Two runs held against each other: A before, B after.

    Attributes:
        a, b: what they are, in words.
        differences: of their environments; empty where they are alike.
        speed, accuracy: of what both have.
        notes: what else a reader has to know.
    """

    format: Literal["modelport.comparison"] = "modelport.comparison"
    format_version: Literal[1] = 1
    a: str
    b: str
    differences: tuple[str, ...]
    speed: tuple[SpeedChange, ...]
    accuracy: tuple[AccuracyChange, ...]
    notes: tuple[str, ...]

    @computed_field
    @property
    def changed(self) -> bool:
        """Whether accuracy or speed changed beyond noise."""
        return any(change.changed for change in (*self.speed, *self.accuracy))


class GateFailure(Result):
    """One thing that a performance gate does not let through."""

    what: str
    reason: str


class PerformanceGate(Result):
    """The verdict of `modelport gate`. `max_slowdown` is a fraction; `max_drop` points, None where the noise decides.

    `notes`: what it let through without being able to tell.
    """

    format: Literal["modelport.performance-gate"] = "modelport.performance-gate"
    format_version: Literal[1] = 1
    comparison: Comparison
    max_slowdown: float
    max_drop: float | None
    failures: tuple[GateFailure, ...]
    notes: tuple[str, ...]

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures
