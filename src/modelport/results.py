"""What was measured: frozen records with raw figures inside and derived ones as properties, as versioned JSON."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import ConfigDict, computed_field

from .schema import Record
from .spec import ModelSpec, Precision, Preprocess


class Result(Record):
    """A record of something measured. Its computed fields are written as well, and passed over when it is read back."""

    model_config = ConfigDict(extra="ignore")


class Environment(Result):
    """Machine and software that a result was measured with."""

    modelport: str
    python: str
    system: str
    machine: str
    cpu: str
    cpu_family: str
    cpu_features: tuple[str, ...]
    cores: int
    memory_bytes: int
    packages: dict[str, str]

    def differences(self, other: Environment) -> list[str]:
        """Each field in which `other` differs, as `name: ours, theirs`; empty where figures may be compared."""
        ours, theirs = self._flat(), other._flat()
        keys = dict.fromkeys([*ours, *theirs])
        return [f"{key}: {ours.get(key)}, {theirs.get(key)}" for key in keys if ours.get(key) != theirs.get(key)]

    def _flat(self) -> dict[str, object]:
        plain = self.jsonable()
        return plain | {f"packages.{name}": version for name, version in plain.pop("packages").items()}


class LatencySummary(Result):
    """Latency of one batch in milliseconds."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: tuple[float, ...]) -> LatencySummary:
        """Summary of raw latencies; percentiles are interpolated linearly between order statistics (NumPy's default)."""
        ms = np.asarray(seconds) * 1e3
        p50, p90, p95, p99 = np.percentile(ms, [50, 90, 95, 99])
        return cls(mean=ms.mean(), p50=p50, p90=p90, p95=p95, p99=p99, max=ms.max())


class Target(Result):
    """What was run: engine, precision asked for and really executed, batch size, and how it was opened."""

    engine: str
    engine_version: str
    precision: Precision
    executed_precision: Precision
    batch_size: int
    streams: int = 1
    threads: int | None = None

    @property
    def name(self) -> str:
        """Engine and precision, such as `openvino-bf16`."""
        return f"{self.engine}-{self.precision}"


class BenchResult(Target):
    """Pure inference: the same prepared batch again and again; no reading, decoding or copying of images.

    Attributes:
        warmup_s: latencies of the rounds that are not counted, seconds.
        latencies_s: latencies of the counted rounds, seconds.
        wall_s: from the first counted round's start to the last one's end.
    """

    warmup_s: tuple[float, ...]
    latencies_s: tuple[float, ...]
    wall_s: float
    environment: Environment

    @computed_field
    @cached_property
    def rounds(self) -> int:
        """Counted rounds."""
        return len(self.latencies_s)

    @computed_field
    @cached_property
    def warmup(self) -> int:
        """Rounds run before, not counted."""
        return len(self.warmup_s)

    @computed_field
    @cached_property
    def throughput(self) -> float:
        """Images a second over the wall time of the counted rounds."""
        return self.rounds * self.batch_size / self.wall_s

    @computed_field
    @cached_property
    def throughput_spread(self) -> tuple[float, float]:
        """Images a second at the 90th and at the 10th percentile of latency: the slow and the fast side."""
        slow, fast = np.percentile(self.latencies_s, [90, 10])
        return self.streams * self.batch_size / slow, self.streams * self.batch_size / fast

    @computed_field
    @cached_property
    def latency_ms(self) -> LatencySummary:
        """Latency of one batch, milliseconds."""
        return LatencySummary.of(self.latencies_s)


class StageStats(Result):
    """One stage of the pipeline. Seconds are summed over its workers.

    Attributes:
        name: read, decode, batch, infer or post.
        workers: threads that ran it.
        items: work items it finished. An item is an image; in infer and post it is a batch.
        images: images in those items.
        failures: images it could not process.
        busy_s: working.
        blocked_get_s: waiting for the stage before.
        blocked_put_s: waiting for the stage after.
        wall_s: how long the whole pipeline ran.
    """

    name: str
    workers: int
    items: int
    images: int
    failures: int
    busy_s: float
    blocked_get_s: float
    blocked_put_s: float
    wall_s: float

    @computed_field
    @property
    def busy_share(self) -> float:
        """Busy time ÷ all time of its workers; the stage nearest 1 limits the pipeline."""
        return self.busy_s / (self.workers * self.wall_s) if self.wall_s else 0.0

    @computed_field
    @property
    def throughput(self) -> float:
        """Images a second that the stage would do if it never had to wait."""
        return self.images * self.workers / self.busy_s if self.busy_s else 0.0


class BadImage(Result):
    """An image that could not be classified, and why."""

    key: str
    reason: str


class EndToEnd(Result):
    """From file on disk to TopN."""

    throughput: float
    wall_s: float


class Interface(Result):
    """Device execution only: images ÷ time during which at least one batch was executing."""

    throughput: float
    busy_s: float


class InferResult(Target):
    """A real-data run through the pipeline.

    Attributes:
        images: images asked for; each has one row in the predictions, failed ones included.
        failures: images that could not be classified.
        bad_images: the failed ones with their reasons, in input order.
        limit: the `--limit` that chose the images, or None for all.
        stages: in pipeline order.
    """

    model: ModelSpec
    images: int
    failures: int
    limit: int | None
    source: str
    e2e: EndToEnd
    interface: Interface
    stages: tuple[StageStats, ...]
    bad_images: tuple[BadImage, ...]
    environment: Environment

    @property
    def limiting_stage(self) -> StageStats:
        """The stage whose workers were busy for the largest share of their time."""
        return max(self.stages, key=lambda stage: stage.busy_share)


class Interval(Result):
    """A 95 % confidence interval of a fraction."""

    low: float
    high: float


class Accuracy(Result):
    """TopN accuracy by image name.

    Attributes:
        images: the denominator: labelled images that were asked for. Missing and failed ones are in it, as wrong.
        classes: width of the model's output.
        hits: images whose label was among the first 1, 2, … 5 predictions.
        missing: labelled images without a prediction, counted as wrong.
        not_requested: labelled images that `--limit` left out, not counted.
        extra: predicted images without a label, not counted.
        failed: images that could not be classified, counted as wrong.
        first_missing, first_extra: examples, at most five each.
    """

    images: int
    classes: int
    hits: tuple[int, ...]
    missing: int = 0
    not_requested: int = 0
    extra: int = 0
    failed: int = 0
    first_missing: tuple[str, ...] = ()
    first_extra: tuple[str, ...] = ()

    @computed_field
    @cached_property
    def topn(self) -> tuple[float, ...]:
        """Top1…Top5 as fractions of `images`."""
        return tuple(hits / self.images for hits in self.hits)

    @computed_field
    @cached_property
    def interval95(self) -> tuple[Interval, ...]:
        """Wilson score intervals of Top1…Top5 (Wilson 1927; SciPy's `proportion_ci`)."""
        from scipy.stats import binomtest

        bounds = (binomtest(hits, self.images).proportion_ci(0.95, method="wilson") for hits in self.hits)
        return tuple(Interval(low=float(b.low), high=float(b.high)) for b in bounds)


class Parity(Result):
    """Scores of one model held against those of its source on the same inputs.

    Attributes:
        against: what the scores are compared with.
        samples: inputs compared.
        max_abs_error, mean_abs_error: over all scores.
        scale: largest absolute score of the source.
        cosine: smallest cosine similarity of a sample's scores.
        top1_agreement: fraction of samples with the same first prediction.
        tolerance: the largest `relative_error` accepted; None where it is only reported.
    """

    against: str
    samples: int
    max_abs_error: float
    mean_abs_error: float
    scale: float
    cosine: float
    top1_agreement: float
    tolerance: float | None = None

    @computed_field
    @property
    def relative_error(self) -> float:
        """Largest error as a share of the largest score: comparable between networks whose scores differ in size."""
        return self.max_abs_error / self.scale if self.scale else self.max_abs_error

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether the largest error is within the tolerance (a NaN is not)."""
        return self.tolerance is None or self.relative_error <= self.tolerance


class Paired(Result):
    """Decisions of one model held against another's on the same images.

    Attributes:
        images: images compared, labelled or not.
        changed: those whose first prediction differs.
        lost: labelled images right by the reference, wrong here.
        gained: wrong by the reference, right here.
        p_value: exact McNemar test, two-sided: the chance of a split at least as uneven as lost : gained if neither
            model were better (McNemar 1947; a binomial test of `lost` out of lost + gained at 1/2).
    """

    against: str
    images: int
    changed: int
    lost: int
    gained: int
    p_value: float


class GateCheck(Result):
    """One comparison of the gate.

    Attributes:
        name: what is compared with what.
        unit: `points` (percentage points of accuracy, measured and reference in per cent) or `relative` (share of the
            largest score).
        reference: the figure that `measured` is held against; None where `limit` alone decides.
        measured: what was found.
        limit: the largest drop, or the largest error, that passes.
    """

    name: str
    unit: Literal["points", "relative"]
    reference: float | None
    measured: float
    limit: float
    passed: bool

    @computed_field
    @property
    def drop(self) -> float:
        """Reference − measured, negative for a gain; the measured error itself where there is no reference."""
        return self.measured if self.reference is None else self.reference - self.measured


class Gate(Result):
    """The verdict: every drop within the tolerance, every f32 parity within its own."""

    tolerance_points: float
    checks: tuple[GateCheck, ...]

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


class ReferenceAccuracy(Result):
    """A recorded accuracy, in per cent, and where it comes from."""

    source: str
    top1: float
    top5: float | None = None


class TargetResult(Result):
    """All that is known of one engine at one precision."""

    engine: str
    engine_version: str
    precision: Precision
    executed_precision: Precision
    accuracy: Accuracy | None
    parity: Parity | None
    paired: Paired | None
    inference: InferResult
    performance: tuple[BenchResult, ...]
    gate: Gate

    @property
    def name(self) -> str:
        """Engine and precision, such as `openvino-bf16`."""
        return f"{self.engine}-{self.precision}"

    @property
    def best(self) -> BenchResult | None:
        """The batch size with the highest pure-inference throughput."""
        return max(self.performance, key=lambda bench: bench.throughput, default=None)


class Command(Result):
    """A command line that reproduces one part of the result on its own. `part` is the report's section."""

    part: Literal["model", "accuracy", "performance"]
    what: str
    line: str


class RunResult(Result):
    """`run.json`: everything one job found out."""

    format: Literal["modelport.run"] = "modelport.run"
    format_version: Literal[1] = 1
    name: str
    started: str
    wall_s: float
    recipe: str
    model: ModelSpec
    opset: int
    onnx_sha256: str
    random_weights: bool
    export_parity: Parity | None
    warnings: tuple[str, ...]
    environment: Environment
    images: int
    source_name: str | None
    source_accuracy: Accuracy | None
    recorded: ReferenceAccuracy | None
    information: tuple[ReferenceAccuracy, ...]
    targets: tuple[TargetResult, ...]
    commands: tuple[Command, ...]

    @computed_field
    @property
    def passed(self) -> bool:
        """Whether every target's gate passed."""
        return all(target.gate.passed for target in self.targets)

    @property
    def preprocess(self) -> Preprocess:
        """How the images were prepared."""
        return self.model.preprocess


def require_comparable(ours: Environment, theirs: Environment) -> None:
    """Raise FormatError, naming the differences, where figures of two environments must not be compared."""
    from .errors import FormatError

    if found := ours.differences(theirs):
        raise FormatError(f"the results were measured in unlike environments: {'; '.join(found)}")
