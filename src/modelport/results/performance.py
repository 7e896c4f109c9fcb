"""Speed: pure inference by rounds, and real-data runs by stages."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, computed_field

from ..spec import ModelSpec, Precision
from .base import Environment, Result

Pace = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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


def target_name(engine: str, precision: Precision, input_dtype: str) -> str:
    """Such as `openvino-bf16`; a model that takes pixels is `openvino-bf16-uint8`."""
    return f"{engine}-{precision}" + ("" if input_dtype == "float32" else f"-{input_dtype}")


class Target(Result):
    """What was run: engine, precision asked for and really executed, batch size, input, and how it was opened.

    `compiled_for` names the GPU that the model was compiled on, its architecture and driver then, and whether float32 products
    may be rounded to TF32; None on a processor.
    """

    engine: str
    engine_version: str
    precision: Precision
    executed_precision: Precision
    batch_size: int
    input_dtype: str = "float32"
    streams: int = 1
    threads: int | None = None
    devices: tuple[int, ...] = (0,)
    compiled_for: str | None = None

    @property
    def name(self) -> str:
        """Engine, precision and an input other than float32, such as `openvino-bf16`."""
        return target_name(self.engine, self.precision, self.input_dtype)


class Hygiene(Result):
    """What else the machine did around a measurement.

    Attributes:
        busy_before: cores that other processes used just before.
        busy_during: cores that other processes used meanwhile; None where it was too short to tell.
        device_busy: which accelerators others were using, as their makers' tools say; None where none is known of.
        clock_mhz: the processor's clock at the start and at the end, mean of its cores; None where the system does not tell, and in
            results of an earlier version.
        pace_s: what one fixed product of matrices took on this machine just before and just after, seconds (see `pace`); None in results
            of an earlier version.
        reasons: why the figures are doubtful; empty where the machine was ours alone.
    """

    busy_before: float
    busy_during: float | None = None
    device_busy: str | None = None
    clock_mhz: tuple[float, float] | None = None
    pace_s: tuple[Pace, Pace] | None = None
    reasons: tuple[str, ...] = ()

    @computed_field
    @property
    def busy(self) -> bool:
        """Whether the figures are doubtful."""
        return bool(self.reasons)

    @property
    def text(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


class DeviceStats(Result):
    """One of several devices that a run was spread over; on a cluster, one of an actor's.

    Attributes:
        name: its number, such as 0; on a cluster with the actor before it, such as `worker-7 pid 4242 0`.
        images: images that went through it.
        busy_s: time during which it was executing at least one batch.
        wall_s: how long the run lasted.
    """

    name: str
    images: int
    busy_s: float
    wall_s: float

    @computed_field
    @property
    def busy_share(self) -> float:
        """Busy time ÷ the run's."""
        return self.busy_s / self.wall_s if self.wall_s else 0.0

    @computed_field
    @property
    def throughput(self) -> float:
        """Images a second while it was executing."""
        return self.images / self.busy_s if self.busy_s else 0.0


class BenchResult(Target):
    """Pure inference: the same prepared batch again and again; no reading, decoding or copying of images.

    Attributes:
        warmup_s: latencies of the rounds that are not counted, seconds.
        latencies_s: latencies of the counted rounds, seconds.
        wall_s: from the first counted round's start to the last one's end.
        hygiene: whether the machine was ours alone; None in results of an earlier version.
        by_device: what each device did; empty in results of an earlier version.
        alone: images a second of the first of several devices while the others rested, measured just before; None for one.
    """

    warmup_s: tuple[float, ...]
    latencies_s: tuple[float, ...]
    wall_s: float
    environment: Environment
    hygiene: Hygiene | None = None
    by_device: tuple[DeviceStats, ...] = ()
    alone: float | None = None

    @computed_field
    @cached_property
    def scaling(self) -> float | None:
        """How many times faster all devices are than one alone."""
        return self.throughput / self.alone if self.alone else None

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
        at_once = len(self.devices) * self.streams * self.batch_size
        return at_once / slow, at_once / fast

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
        cpu_s: processor time; of infer, what the process used and no other stage did. 0 in results of an earlier version.
        on_cores: whether the stage computes on this machine's cores; off, it waits for a disk or an accelerator.
        finished_s: from the pipeline's start until the stage's last item was done.
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
    cpu_s: float = 0.0
    on_cores: bool = True
    finished_s: float
    wall_s: float

    @computed_field
    @property
    def busy_share(self) -> float:
        """Busy time ÷ all time of its workers; the stage nearest 1 limits the pipeline."""
        whole = self.workers * self.wall_s
        return self.busy_s / whole if whole else 0.0

    @computed_field
    @property
    def throughput(self) -> float:
        """Images a second that the stage would do if it never had to wait."""
        return self.images * self.workers / self.busy_s if self.busy_s else 0.0

    def capacity(self, cores: int) -> float:
        """Images a second of the stage with the cores to itself; infinite where it costs nothing.

        On cores it is bound by its processor time, for its busy time holds the time in which others had its core.
        """
        if self.on_cores:
            parallel = cores if self.name == "infer" else min(self.workers, cores)
            return self.images * parallel / self.cpu_s if self.cpu_s else math.inf
        return self.images * self.workers / self.busy_s if self.busy_s else math.inf


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


class FastCheck(Result):
    """What fast preprocessing, or decoding on a GPU, changed, on a sample of the images.

    Attributes:
        images: images compared, spread evenly over the run.
        largest_difference: of one pixel's one channel, in steps of 0…255.
        differing_share: values that differ at all ÷ all values.
        changed: images of which the model decides otherwise when they are prepared exactly.
    """

    images: int
    largest_difference: int
    differing_share: float
    changed: int


class InferResult(Target):
    """A real-data run through the pipeline.

    Attributes:
        images: images asked for; each has one row in the predictions, failed ones included.
        failures: images that could not be classified.
        kept: images that earlier runs had done, before this one went on; the stages know only of the others.
        bad_images: the failed ones with their reasons, in input order.
        limit: the `--limit` that chose the images, or None for all.
        stages: in pipeline order.
        hygiene: whether the machine was ours alone; None in results of an earlier version.
        preprocessing: exact, or fast, which is near it.
        decoding: of JPEG: cpu, or nvjpeg, whose pixels differ a little.
        fast_check: how near the pixels are to the exact path's on the processor; None where they are those, and where there was no
            image to compare.
        calibrated_with: the images that the model was calibrated with; it is not evaluated on them.
        restarts: how often the engine's own process was started again, without earlier runs; None where it ran in ours.
        by_device: what each device did; empty in results of an earlier version.
        cluster: how many actors on how many nodes did it, in words; None where this process did.
    """

    model: ModelSpec
    images: int
    failures: int
    kept: int = 0
    limit: int | None
    source: str
    e2e: EndToEnd
    interface: Interface
    stages: tuple[StageStats, ...]
    bad_images: tuple[BadImage, ...]
    environment: Environment
    hygiene: Hygiene | None = None
    preprocessing: Literal["exact", "fast"] = "exact"
    decoding: Literal["cpu", "nvjpeg"] = "cpu"
    fast_check: FastCheck | None = None
    calibrated_with: tuple[str, ...] = ()
    restarts: int | None = None
    by_device: tuple[DeviceStats, ...] = ()
    cluster: str | None = None

    @computed_field
    @property
    def isolated(self) -> bool:
        """Whether the engine ran in processes of its own."""
        return self.restarts is not None

    @computed_field
    @property
    def scaling(self) -> float | None:
        """How many devices' work was got out of them: images a second end to end ÷ those of one device while it executes.

        As many as there are devices where none ever waited; what they cost each other while executing, it does not show (`bench`
        does, which runs one alone). None where earlier runs had done all.
        """
        rates = [device.throughput for device in self.by_device if device.images]
        if not rates:
            return None
        return sum(device.busy_share * device.throughput for device in self.by_device) / (sum(rates) / len(rates))

    @property
    def limiting_stage(self) -> StageStats:
        """The stage whose workers were busy for the largest share of their time."""
        return max(self.stages, key=lambda stage: stage.busy_share)

    @property
    def bound(self) -> float | None:
        """Images a second if nothing ever waited for another stage: what the slowest stage alone and all cores together allow."""
        return self._bound(self.stages)

    def without(self, name: str) -> float | None:
        """Forecast: images a second end to end if this stage cost nothing, at the same efficiency as now."""
        bound, rest = self.bound, self._bound(tuple(stage for stage in self.stages if stage.name != name))
        return rest * min(1.0, self.e2e.throughput / bound) if bound and rest else None

    def _bound(self, stages: tuple[StageStats, ...]) -> float | None:
        cores, cpu = self.environment.cores, sum(stage.cpu_s for stage in stages)
        if not cpu or not cores:
            return None
        return min(cores * (self.images - self.kept) / cpu, *(stage.capacity(cores) for stage in stages))
