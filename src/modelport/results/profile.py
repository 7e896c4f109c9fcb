"""Where the time of a batch goes, operator by operator, and what of it moves data without computing anything."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import computed_field

from ..spec import ModelSpec
from .base import Environment, Result
from .operators import Kind, OperatorFacts
from .peaks import MachinePeaks
from .performance import Hygiene, Target

AGREEMENT = 0.1  # between the operators' sum and the latency, beyond which the reports say so


class Operator(OperatorFacts):
    """One operator with its times.

    Attributes:
        kind: what class of work its type is.
        start_us: from the start of the round; the operators before it and the gaps between them, medians.
        durations_us: one per sample: a round, or the mean of a block of rounds where the engine's counters only add up.
        share: median duration ÷ the sum of all operators' medians.
        flops: estimated operations of a round, a multiplication and an addition counting as 2; None where not known.
        bytes: estimated bytes read and written, weights included, if nothing stayed in a cache; None where not known.
        limit_us: the least time that the machine's peaks allow: the larger of flops ÷ peak and bytes ÷ bandwidth; None
            without peaks or estimates.
        bound: which of the two it is.
    """

    kind: Kind
    start_us: float
    durations_us: tuple[float, ...]
    share: float
    flops: float | None = None
    bytes: float | None = None
    limit_us: float | None = None
    bound: Literal["compute", "memory"] | None = None

    @computed_field
    @cached_property
    def duration_us(self) -> float:
        """Median, microseconds."""
        return float(np.median(self.durations_us))

    @computed_field
    @cached_property
    def p10_us(self) -> float:
        """10th percentile of the samples."""
        return float(np.percentile(self.durations_us, 10))

    @computed_field
    @cached_property
    def p90_us(self) -> float:
        """90th percentile of the samples."""
        return float(np.percentile(self.durations_us, 90))

    @computed_field
    @property
    def gflops(self) -> float | None:
        """Achieved 10^9 operations a second."""
        return self.flops / self.duration_us / 1e3 if self.flops and self.duration_us else None

    @computed_field
    @property
    def gigabytes_s(self) -> float | None:
        """Achieved 10^9 bytes a second, if nothing stayed in a cache; so it may be above what memory can do."""
        return self.bytes / self.duration_us / 1e3 if self.bytes and self.duration_us else None

    @computed_field
    @property
    def limit_share(self) -> float | None:
        """Least possible time ÷ measured time; above 1 where data came from a cache and not from memory."""
        return self.limit_us / self.duration_us if self.limit_us is not None and self.duration_us else None


class Island(Result):
    """Neighbouring operators that only move or convert data.

    Attributes:
        operators: their names, in the order of execution.
        types: their types, likewise.
        duration_us: sum of their medians.
        share: of the sum of all operators.
        pattern: what they stand between, in ONNX operators where these are known, such as `Conv → Split → Conv`.
        source: names of the ONNX nodes that they compute; empty where the engine added all of them.
        after, before: ONNX names (or the engine's) of what they read from and of what reads from them.
        rewrite: what would remove them: a pass of `modelport optimize`, or an option of `modelport compile`; None where
            nothing is known to.
        reason: why that applies, or why nothing does.
    """

    operators: tuple[str, ...]
    types: tuple[str, ...]
    duration_us: float
    share: float
    pattern: str
    source: tuple[str, ...]
    after: tuple[str, ...]
    before: tuple[str, ...]
    rewrite: str | None
    reason: str

    @computed_field
    @property
    def recoverable_us(self) -> float:
        """What the rewrite would save at most: what it costs elsewhere is not known before it is measured."""
        return self.duration_us if self.rewrite else 0.0


class TypeTimes(Result):
    """All operators of one type. Times are of their medians, microseconds."""

    type: str
    kind: Kind
    count: int
    total_us: float
    min_us: float
    max_us: float
    share: float

    @computed_field
    @property
    def mean_us(self) -> float:
        """Total ÷ count."""
        return self.total_us / self.count


class ProfileResult(Target):
    """`profile.json`: every operator of one batch, and how their sum compares with the latency.

    Attributes:
        origin: `measured` here, or read from the CSV files of Ascend's `msprof`.
        where: the offline model, or the CSV file.
        model: which network; None where the source does not say.
        input: `random`, or the images of the batch.
        rounds: counted, in each of the two ways (with counters and without).
        warmup: rounds before each block that are not counted.
        blocks: rounds with counters and without took turns in so many blocks, each with counters that began afresh.
        latencies_s: of each round without counters, seconds; of msprof's rounds from the first operator's start to the last
            one's end; empty where the source does not say.
        counting_s: of each round with counters.
        counter_us: known cost of the counters, taken off each operator's time; negative where they cut off fractions.
        operators: in the order of execution.
        islands: the most expensive first.
        peaks: what the machine can do; None where it was not measured.
    """

    format: Literal["modelport.profile"] = "modelport.profile"
    format_version: Literal[1] = 1
    origin: Literal["measured", "msprof"]
    where: str
    model: ModelSpec | None
    input: str
    rounds: int
    warmup: int
    blocks: int
    latencies_s: tuple[float, ...]
    counting_s: tuple[float, ...]
    counter_us: float
    operators: tuple[Operator, ...]
    islands: tuple[Island, ...]
    peaks: MachinePeaks | None = None
    environment: Environment | None = None
    hygiene: Hygiene | None = None

    @computed_field
    @cached_property
    def latency_us(self) -> float | None:
        """Median latency of a batch without counters, microseconds."""
        return float(np.median(self.latencies_s)) * 1e6 if self.latencies_s else None

    @computed_field
    @cached_property
    def counting_us(self) -> float | None:
        """Median latency with counters."""
        return float(np.median(self.counting_s)) * 1e6 if self.counting_s else None

    @computed_field
    @cached_property
    def operators_us(self) -> float:
        """Sum of all operators: of each sample, and of these the median."""
        return float(np.median(np.sum([operator.durations_us for operator in self.operators], axis=0)))

    @computed_field
    @property
    def overhead_us(self) -> float | None:
        """Latency − sum of the operators: what the engine does between them; below 0 it is lost in the noise."""
        return None if self.latency_us is None else self.latency_us - self.operators_us

    @computed_field
    @property
    def coverage(self) -> float | None:
        """Sum of the operators ÷ latency."""
        return self.operators_us / self.latency_us if self.latency_us else None

    @computed_field
    @cached_property
    def types(self) -> tuple[TypeTimes, ...]:
        """Times by type, the most expensive first."""
        groups: dict[str, list[Operator]] = {}
        for operator in self.operators:
            groups.setdefault(operator.type, []).append(operator)
        found = (
            TypeTimes(
                type=name,
                kind=group[0].kind,
                count=len(group),
                total_us=sum(each.duration_us for each in group),
                min_us=min(each.duration_us for each in group),
                max_us=max(each.duration_us for each in group),
                share=sum(each.share for each in group),
            )
            for name, group in groups.items()
        )
        return tuple(sorted(found, key=lambda each: -each.total_us))

    @computed_field
    @property
    def recoverable_us(self) -> float:
        """What known rewrites would save at most."""
        return sum(island.recoverable_us for island in self.islands)

    @computed_field
    @property
    def moving_us(self) -> float:
        """What moves data and computes nothing."""
        return sum(island.duration_us for island in self.islands)
