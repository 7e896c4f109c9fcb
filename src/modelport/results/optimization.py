"""What `optimize` decided: every pass, whether it applies, its proof, its timing, and why it was kept or not."""

from __future__ import annotations

from math import inf, isnan
from statistics import median
from typing import Literal

from pydantic import Field, computed_field

from ..spec import ModelSpec, Precision
from .accuracy import Parity
from .base import Environment, Result
from .performance import Hygiene

CONFIDENCE = 0.95
PassOutcome = Literal["kept", "rejected", "not-applicable", "refuted", "failed"]


class PairedTiming(Result):
    """Two offline models run in turn, in rounds of short turns, so that a machine whose speed drifts drifts for both.

    Attributes:
        before_s, after_s: median latency of a batch in each round, seconds; equal places are one round.
        processes: how many processes the rounds come from. Each other one opens and runs the models in the other order.
        hygiene: of each process, whether the machine was ours alone.
    """

    before_s: tuple[float, ...]
    after_s: tuple[float, ...]
    processes: int
    hygiene: tuple[Hygiene, ...] = ()

    @computed_field
    @property
    def ratios(self) -> tuple[float, ...]:
        """Speed after ÷ speed before, of each round."""
        return tuple(before / after for before, after in zip(self.before_s, self.after_s, strict=True))

    @computed_field
    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return median(self.ratios)

    @computed_field
    @property
    def interval95(self) -> tuple[float, float]:
        """95 % interval of the median ratio, from the ratios' order alone: whatever the noise's distribution."""
        return median_interval(self.ratios)

    @computed_field
    @property
    def busy(self) -> bool:
        """Whether others used the machine meanwhile, so that the figures are doubtful."""
        return any(item.busy for item in self.hygiene)

    def joined(self, other: PairedTiming) -> PairedTiming:
        """The rounds of both."""
        return PairedTiming(
            before_s=self.before_s + other.before_s,
            after_s=self.after_s + other.after_s,
            processes=self.processes + other.processes,
            hygiene=self.hygiene + other.hygiene,
        )

    @property
    def text(self) -> str:
        """The gain with its interval, such as `+4.1 % (95 %: +2.9 … +5.2)`."""
        low, high = self.interval95
        return f"{_percent(self.ratio)} % (95 %: {_percent(low)} … {_percent(high)})"


class PassDecision(Result):
    """What became of one pass.

    Attributes:
        name: with the parameter of a pass that has one, such as `merge_groups:16`.
        summary: what it does.
        outcome: `kept`; `rejected`: not faster, or not to be applied unmeasured; `not-applicable`: nothing to rewrite;
            `refuted`: its graph is broken or answers something else; `failed`: its graph cannot be compiled or run.
        reason: why, in words.
        sites: places that it rewrote.
        refused: places that looked alike and were left, each with the reason.
        operators_before, operators_after: how many of each type; empty where it does not apply.
        parity: scores of its graph against the original file's, in float32.
        timing: against what had been kept before, of both timings where it won the first; None where it was not timed.
    """

    name: str
    summary: str
    outcome: PassOutcome
    reason: str
    sites: int = 0
    refused: tuple[str, ...] = ()
    operators_before: dict[str, int] = Field(default_factory=dict)
    operators_after: dict[str, int] = Field(default_factory=dict)
    parity: Parity | None = None
    timing: PairedTiming | None = None


class OptimizationResult(Result):
    """`OUTPUT.optimization.json`, beside the rewritten file.

    Attributes:
        source, source_sha256: the file that was optimised.
        output_sha256: of the rewritten file; equal to the source's where nothing was kept.
        model: its ModelSpec; None where the file has none and none was given.
        opset: of both.
        target, engine_version: the engine; its version where it was asked to measure.
        precision, batch_size, threads: what was measured; threads None is the engine's choice.
        measured: whether decisions are by timing; else by rule.
        basis: how it was decided, in a sentence.
        min_gain: smallest gain that is kept, as a fraction.
        rounds, seconds: of a timing, of four turns each, and least length of a turn.
        tolerance: largest difference of a score accepted in a proof, as a share of the largest score.
        noise_samples, images: random inputs and real images in each proof.
        decisions: in the order in which they were taken.
        total: all that was kept against the source; None where it was not timed.
    """

    format: Literal["modelport.optimization"] = "modelport.optimization"
    format_version: Literal[1] = 1
    source: str
    source_sha256: str
    output_sha256: str
    model: ModelSpec | None
    opset: int
    target: str
    engine_version: str | None
    precision: Precision
    batch_size: int
    threads: int | None = None
    measured: bool
    basis: str
    min_gain: float
    rounds: int
    seconds: float
    tolerance: float
    noise_samples: int
    images: int
    operators_before: dict[str, int]
    operators_after: dict[str, int]
    decisions: tuple[PassDecision, ...]
    total: PairedTiming | None = None
    environment: Environment

    @computed_field
    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the passes whose rewrites are in the output."""
        return tuple(decision.name for decision in self.decisions if decision.outcome == "kept")


def median_interval(values: tuple[float, ...]) -> tuple[float, float]:
    """Distribution-free 95 % interval of a median, by the sign test turned round: from one of the values to another.

    With fewer than 6 values none is that sure, and the interval is (0, infinity).
    """
    from scipy.stats import quantile_test

    low, high = map(float, quantile_test(values, p=0.5).confidence_interval(CONFIDENCE))
    return (0.0, inf) if isnan(low) or isnan(high) else (low, high)


def _percent(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f}".replace("-", "−")
