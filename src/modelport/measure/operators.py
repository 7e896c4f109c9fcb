"""Operators' facts and times put together with what is estimated of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..results import MachinePeaks, OperatorFacts
from ..results.profile import Operator
from .cost import estimate_bytes, estimate_flops, limit
from .kinds import kind_of

_DIGITS = 3  # of a microsecond


def describe_operators(
    facts: Sequence[OperatorFacts], durations_us: np.ndarray, gaps_us: np.ndarray | None, peaks: MachinePeaks | None
) -> tuple[Operator, ...]:
    """Operators with their times, estimates and limits.

    Args:
        facts: in the order of execution.
        durations_us: samples x operators.
        gaps_us: likewise, before each operator; None where they are not known.
        peaks: None leaves the limits out.
    """
    medians = np.median(durations_us, axis=0)
    gaps = np.zeros(len(facts)) if gaps_us is None else np.median(gaps_us, axis=0)
    starts = np.cumsum(medians + gaps) - medians
    total = float(medians.sum()) or 1.0
    found = [
        Operator(
            **dict(each),
            kind=kind_of(each.type),
            start_us=round(float(start), _DIGITS),
            durations_us=tuple(round(float(value), _DIGITS) for value in samples),
            share=float(median) / total,
            flops=estimate_flops(each),
            bytes=estimate_bytes(each),
        )
        for each, samples, median, start in zip(facts, durations_us.T, medians, starts, strict=True)
    ]
    return tuple(limit(operator, peaks) for operator in found) if peaks else tuple(found)
