"""What a sweep found: configurations and trials of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from statistics import median
from typing import Literal

from pydantic import computed_field

from ..spec import ModelSpec, Precision
from .base import Environment, Result
from .performance import Hygiene, LatencySummary, target_name

Outcome = Literal["ok", "refused", "crashed", "timeout", "skipped"]


class Configuration(Result):
    """One way to run a model. A new knob is a new field with a default, so that older records can still be read.

    Attributes:
        engine, precision, batch_size: what is compiled.
        streams: batches at once.
        threads: cores in all; None is the engine's choice.
        input: float32, or uint8 where the model normalises pixels itself.
        resolution: height and width of the input, pixels; None is the model's own.
    """

    engine: str
    precision: Precision
    batch_size: int
    streams: int = 1
    threads: int | None = None
    input: Literal["float32", "uint8"] = "float32"
    resolution: int | None = None

    @property
    def variant(self) -> str:
        """What decides its accuracy, such as `openvino-bf16` or `openvino-bf16-192px`."""
        name = target_name(self.engine, self.precision, self.input)
        return f"{name}-{self.resolution}px" if self.resolution else name

    @property
    def model(self) -> str:
        """Name of the offline model that it runs."""
        return f"{self.variant}-batch-{self.batch_size}"

    @property
    def line(self) -> Configuration:
        """The same at batch size 1: equal for configurations that differ in nothing but the batch size."""
        return self.model_copy(update={"batch_size": 1})

    @property
    def text(self) -> str:
        """All of it in words."""
        streams = f", {self.streams} streams" if self.streams > 1 else ""
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.variant}, batch {self.batch_size}{streams}{threads}"


class Trial(Result):
    """One configuration run once, in a process of its own.

    Attributes:
        repeat: from 1.
        outcome: `ok`; `refused`: the engine does not offer it or would not compile or open it; `crashed`: a process
            died, or the engine failed while running; `timeout`: it was ended; `skipped`: it was not run.
        reason: why it is not `ok`.
        executed_precision: read from the offline model.
        warmup_s, latencies_s: of each batch, seconds.
        wall_s: from the first counted batch's start to the last one's end.
        hygiene: whether the machine was ours alone.
    """

    configuration: Configuration
    repeat: int
    outcome: Outcome
    reason: str | None = None
    executed_precision: Precision | None = None
    warmup_s: tuple[float, ...] = ()
    latencies_s: tuple[float, ...] = ()
    wall_s: float | None = None
    hygiene: Hygiene | None = None

    @computed_field
    @property
    def throughput(self) -> float | None:
        """Images a second; None where it did not run."""
        return len(self.latencies_s) * self.configuration.batch_size / self.wall_s if self.wall_s else None


class Measured(Result):
    """All trials of one configuration.

    Attributes:
        outcome, reason: `ok` only where every repeat was.
        throughputs: images a second, of each repeat that ran.
        latency_ms: of a batch, over the rounds of all repeats.
        doubtful: repeats during which others used the machine.
    """

    configuration: Configuration
    outcome: Outcome
    reason: str | None = None
    executed_precision: Precision | None = None
    throughputs: tuple[float, ...] = ()
    latency_ms: LatencySummary | None = None
    doubtful: int = 0

    @computed_field
    @property
    def throughput(self) -> float | None:
        """Median of the repeats, images a second."""
        return median(self.throughputs) if self.throughputs else None

    @computed_field
    @property
    def throughput_spread(self) -> tuple[float, float] | None:
        """Slowest and fastest repeat."""
        return (min(self.throughputs), max(self.throughputs)) if self.throughputs else None

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Measured:
        """Sum up the repeats of one configuration; at least one."""
        ran = [trial for trial in trials if trial.outcome == "ok"]
        verdict = next((trial for trial in trials if trial.outcome != "ok"), trials[0])
        return cls(
            configuration=trials[0].configuration,
            outcome=verdict.outcome,
            reason=verdict.reason,
            executed_precision=ran[0].executed_precision if ran else None,
            throughputs=tuple(trial.throughput for trial in ran if trial.throughput is not None),
            latency_ms=LatencySummary.of(tuple(s for trial in ran for s in trial.latencies_s)) if ran else None,
            doubtful=sum(trial.hygiene is not None and trial.hygiene.busy for trial in ran),
        )


class SweepSettings(Result):
    """How trials are made.

    Attributes:
        seconds: how long a trial measures, after its warmup.
        warmup: batches before, not counted.
        trial_timeout_s, compile_timeout_s: until a trial, or a compilation, is ended.
        saturation: growth of throughput over two steps of the batch size below which larger ones are skipped; None
            tries them all.
    """

    seconds: float = 2.0
    warmup: int = 3
    trial_timeout_s: float = 60.0
    compile_timeout_s: float = 900.0
    saturation: float | None = 0.03


class SweepSubject(Result):
    """First line of `trials.jsonl`: all that the trials' figures depend on besides their configurations.

    `calibration` is the digest of the images that int8 models are calibrated with.
    """

    format: Literal["modelport.trials"] = "modelport.trials"
    format_version: Literal[1] = 1
    model: ModelSpec
    onnx_sha256: str
    calibration: str | None = None
    settings: SweepSettings
    environment: Environment

    def differences(self, other: SweepSubject) -> list[str]:
        """Each thing in which `other` differs, as `name: ours, theirs`."""
        ours, theirs = self.jsonable(), other.jsonable()
        found = [
            f"{key}: {ours[key]}, {theirs[key]}"
            for key in ("onnx_sha256", "model", "calibration")
            if ours[key] != theirs[key]
        ]
        old, new = ours["settings"], theirs["settings"]
        found += [f"{key}: {old[key]}, {new[key]}" for key in old if old[key] != new[key]]
        return found + self.environment.differences(other.environment)


class SweepResult(Result):
    """`sweep.json`: every configuration in the order of the sweep. The trials themselves are in `trials.jsonl`."""

    format: Literal["modelport.sweep"] = "modelport.sweep"
    format_version: Literal[1] = 1
    subject: SweepSubject
    configurations: tuple[Measured, ...]

    @cached_property
    def ran(self) -> tuple[Measured, ...]:
        """Those that ran in every repeat."""
        return tuple(measured for measured in self.configurations if measured.outcome == "ok")
