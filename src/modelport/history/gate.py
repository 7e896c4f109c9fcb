"""A gate for continuous integration: is this run slower or worse than a baseline, by more than is allowed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..results.comparison import Comparison, GateFailure, PerformanceGate, SpeedChange


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLimits:
    """What is let through.

    Attributes:
        max_slowdown: of any configuration's median latency, as a fraction.
        max_drop: of any target's Top1, in percentage points; None: whatever is not beyond noise.
        strict: what cannot be told fails as well.
    """

    max_slowdown: float = 0.05
    max_drop: float | None = None
    strict: bool = False


def judge_comparison(comparison: Comparison, limits: GateLimits) -> PerformanceGate:
    """Hold a comparison against limits.

    A slowdown fails where it is larger than the limit and beyond noise. One that was measured on a busy machine fails as well:
    a gate shall not open because nobody can tell. One that is larger than the limit but within the noise is let through with a
    note, or fails where `strict` is on.
    """
    failures: list[GateFailure] = []
    notes: list[str] = []
    for change in comparison.speed:
        reason = _slow(change, limits)
        if reason is None:
            continue
        if change.verdict in ("slower", "doubtful") or limits.strict:
            failures.append(GateFailure(what=change.configuration, reason=reason))
        else:
            notes.append(f"{change.configuration}: {reason}")
    for target in comparison.accuracy:
        lost = target.drop_points
        # Half a millionth of a point: the fractions behind both figures are exact, their difference is not.
        beyond = target.verdict == "lower" if limits.max_drop is None else lost > limits.max_drop + 5e-7
        if beyond:
            allowed = "what noise explains" if limits.max_drop is None else f"the {limits.max_drop:g} points allowed"
            fall = f"top-1 fell by {lost:.2f} points, from {target.before:.2%} to {target.after:.2%}"
            reason = f"{fall}, more than {allowed} ({target.reason})"
            failures.append(GateFailure(what=target.target, reason=reason))
    return PerformanceGate(
        comparison=comparison,
        max_slowdown=limits.max_slowdown,
        max_drop=limits.max_drop,
        failures=tuple(failures),
        notes=(*notes, *_blind(comparison.speed, limits)),
    )


def _slow(change: SpeedChange, limits: GateLimits) -> str | None:
    """Why a configuration is too slow; None where it is within the limit."""
    if change.slowdown <= limits.max_slowdown:
        return None
    text = (
        f"{change.slowdown:.1%} slower ({change.before_ms:.3g} → {change.after_ms:.3g} ms; {change.low:+.1%} … {change.high:+.1%}), "
        f"more than the {limits.max_slowdown:.1%} allowed"
    )
    if change.verdict == "slower":
        return text
    return (
        f"{text}; {change.reason}" if change.verdict == "doubtful" else f"{text}, but not beyond noise: {change.reason}"
    )


def _blind(changes: Sequence[SpeedChange], limits: GateLimits) -> list[str]:
    """Where noise is larger than the limit, the gate lets more through than it says."""
    reaches = [(change.high - change.low) / 2 for change in changes]
    blind = [reach for reach in reaches if reach > limits.max_slowdown]
    if not blind:
        return []
    return [
        f"in {len(blind)} of {len(changes)} configurations a slowdown of {limits.max_slowdown:.1%} could not have been told from noise; it "
        f"takes up to {max(blind):.1%} (more rounds, an idle machine and a longer history lower that)"
    ]
