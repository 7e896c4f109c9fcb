"""The choice of a configuration: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..results import Configuration, Goal, Measured

_EXACT = 5e-7  # the fractions behind a loss in points are exact, their difference is not


def parse_goal(text: str) -> Goal:
    """A goal as the command line has it: `throughput`, or `latency:20` for a p90 latency of 20 ms or less.

    Raises:
        ValueError: it is neither.
    """
    kind, _, limit = text.replace("<=", ":").partition(":")
    if kind == "throughput" and not limit:
        return Goal()
    try:
        milliseconds = float(limit)
    except ValueError:
        milliseconds = -1.0
    if kind.strip() != "latency" or not 0 < milliseconds < float("inf"):
        raise ValueError(f"{text!r}: expected throughput, or latency:MS such as latency:20 (p90 of a batch)")
    return Goal(latency_ms=milliseconds)


def meets(loss: float | None, max_drop: float) -> bool:
    """Whether a loss is within the floor; an unknown one is not."""
    return loss is not None and loss <= max_drop + _EXACT


def pareto_front(measured: Iterable[Measured]) -> list[Measured]:
    """Those than which none has both more throughput and less p90 latency, fastest first; one of equals."""
    front: list[Measured] = []
    for candidate in sorted(measured, key=lambda found: (-speed(found), p90(found))):
        if not front or p90(candidate) < p90(front[-1]):
            front.append(candidate)
    return front


def settle_front(
    measured: Iterable[Measured], loss: Callable[[Configuration], float | None], max_drop: float
) -> list[Measured]:
    """The front of those that keep their accuracy.

    Args:
        measured: configurations that ran.
        loss: points that a configuration's variant loses, or None. Asked only of variants that would be on the front, and
            possibly more than once.
        max_drop: the floor.
    """
    left = list(measured)
    while True:
        front = pareto_front(left)
        bad = {found.configuration.variant for found in front if not meets(loss(found.configuration), max_drop)}
        if not bad:
            return front
        left = [found for found in left if found.configuration.variant not in bad]


def choose(front: Iterable[Measured], goal: Goal) -> Configuration | None:
    """The fastest on the front that is within the goal's latency; it is also the fastest of all that are."""
    within = [found for found in front if goal.latency_ms is None or p90(found) <= goal.latency_ms]
    return max(within, key=speed).configuration if within else None


def explain_miss(
    front: list[Measured], goal: Goal, losses: Mapping[str, float | None], max_drop: float, unit: str
) -> str:
    """Why nothing was chosen, what came closest, and by how much it misses.

    Args:
        front: what `settle_front` found.
        goal, max_drop: what was not met.
        losses: points lost, by variant.
        unit: what is lost, such as `points`.
    """
    if front:
        assert goal.latency_ms is not None
        best = min(front, key=p90)
        return (
            f"no configuration that loses at most {max_drop:g} {unit} has a p90 latency of {goal.latency_ms:g} ms or less; "
            f"the closest is {best.configuration.text}: {p90(best):.2f} ms, {p90(best) - goal.latency_ms:.2f} ms too slow"
        )
    known = {variant: loss for variant, loss in losses.items() if loss is not None}
    if not known:
        return "no configuration could classify the images; the accuracy table says why"
    variant = min(known, key=known.__getitem__)
    return (
        f"no configuration loses at most {max_drop:g} {unit}; the closest is {variant}, which loses {known[variant]:.2f}, "
        f"{known[variant] - max_drop:.2f} too many"
    )


def speed(measured: Measured) -> float:
    """Throughput of a configuration that ran."""
    assert measured.throughput is not None
    return measured.throughput


def p90(measured: Measured) -> float:
    """90th percentile of a batch's latency, milliseconds, of a configuration that ran."""
    assert measured.latency_ms is not None
    return measured.latency_ms.p90
