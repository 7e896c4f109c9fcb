"""The history: what is kept of each run, and how it is listed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..spec import ModelSpec, Precision
from .accuracy import Accuracy
from .base import Environment, Result
from .performance import BenchResult, InferResult, Target, target_name
from .run import RunResult
from .search import Configuration, Measured, SweepResult
from .tuning import TuneResult

Kind = Literal["run", "bench", "infer", "evaluate", "sweep", "tune"]
Verdict = Literal["passed", "failed"]


class Speed(Result):
    """How fast one configuration was in pure inference.

    Attributes:
        configuration: all of it in words, such as `openvino-bf16, batch 8, 2 streams`; equal words are the same configuration.
        throughput: images a second.
        rounds_s: latencies of a batch, seconds, in the order in which they were measured: a tuple for each process that measured.
        pace_s: how fast the machine itself was in each process (`Hygiene.pace_s`); None where nobody looked, and where a GPU ran the model.
        doubtful: why the figures are doubtful; None where the machine was ours alone, or nobody looked.
    """

    configuration: str
    engine: str
    engine_version: str | None = None
    precision: Precision
    executed_precision: Precision | None = None
    batch_size: int
    throughput: float
    rounds_s: tuple[tuple[float, ...], ...] = ()
    pace_s: tuple[tuple[float, float], ...] | None = None
    doubtful: str | None = None

    @property
    def median_s(self) -> float | None:
        """Median latency of a batch: of the processes' medians; None where no rounds are known."""
        return float(np.median([np.median(rounds) for rounds in self.rounds_s])) if self.rounds_s else None


class TargetAccuracy(Result):
    """How well one target decided. `passed`: its gate, None where there was none; `e2e`: images a second from file to TopN."""

    target: str
    engine: str
    precision: Precision
    accuracy: Accuracy | None
    e2e: float | None = None
    passed: bool | None = None


class HistoryEntry(Result):
    """One run as it is kept: what the command found out, whole, and what it was about. One of the last six is filled.

    Attributes:
        started: UTC, ISO 8601.
        name: the recipe's name, or the model's.
        model: None where it is not known.
        onnx_sha256: of the ONNX file that the model was made from; None where it is not known.
        place: directory of what was made.
        evaluated: what `inference` was evaluated to.
    """

    format: Literal["modelport.history"] = "modelport.history"
    format_version: Literal[1] = 1
    kind: Kind
    started: str
    name: str
    model: ModelSpec | None = None
    onnx_sha256: str | None = None
    place: str | None = None
    run: RunResult | None = None
    benches: tuple[BenchResult, ...] = ()
    inference: InferResult | None = None
    evaluated: Accuracy | None = None
    sweep: SweepResult | None = None
    tune: TuneResult | None = None

    @property
    def environment(self) -> Environment | None:
        """Machine and software of it; None where the entry holds nothing measured."""
        if self.sweep or self.tune:
            found = self.sweep or self.tune.sweep  # type: ignore[union-attr]
            return found.subject.environment
        first = self.run or (self.benches[0] if self.benches else self.inference)
        return first.environment if first is not None else None

    @property
    def verdict(self) -> Verdict | None:
        """Whether the gates passed, or a winner was found; None where nothing was judged."""
        if self.tune is not None:
            return "passed" if self.tune.winner is not None else "failed"
        if self.run is None or not any(target.gate.checks for target in self.run.targets):
            return None
        return "passed" if self.run.passed else "failed"

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """Pure inference of every configuration; of a sweep the fastest of each variant, of a tuning the winner."""
        if self.run is not None:
            return tuple(speed_of(bench) for target in self.run.targets for bench in target.performance)
        if self.sweep is not None:
            return tuple(_speed_of_trials(found) for found in _fastest_by_variant(self.sweep))
        if self.tune is not None:
            return tuple(
                _speed_of_trials(found)
                for found in self.tune.sweep.configurations
                if found.configuration == self.tune.winner
            )
        return tuple(speed_of(bench) for bench in self.benches)

    @property
    def accuracies(self) -> tuple[TargetAccuracy, ...]:
        """Of every target that decided on images."""
        if self.run is not None:
            return tuple(
                _accuracy_of(target.inference, target.accuracy, target.gate.passed if target.gate.checks else None)
                for target in self.run.targets
            )
        if self.tune is not None and self.tune.winner is not None:
            winner, found = self.tune.winner, self.tune.accuracy_of(self.tune.winner)
            return (
                TargetAccuracy(
                    target=winner.variant,
                    engine=winner.engine,
                    precision=winner.precision,
                    accuracy=found.accuracy if found else None,
                    passed=found.passed if found else None,
                ),
            )
        return (_accuracy_of(self.inference, self.evaluated, None),) if self.inference is not None else ()


def speed_of(bench: BenchResult) -> Speed:
    """What a measurement of pure inference says."""
    hygiene = bench.hygiene
    pace = None if hygiene is None or bench.compiled_for is not None else hygiene.pace_s
    return Speed(
        configuration=_configuration(bench),
        engine=bench.engine,
        engine_version=bench.engine_version,
        precision=bench.precision,
        executed_precision=bench.executed_precision,
        batch_size=bench.batch_size,
        throughput=bench.throughput,
        rounds_s=(bench.latencies_s,),
        pace_s=None if pace is None else (pace,),
        doubtful=hygiene.text if hygiene is not None and hygiene.busy else None,
    )


def _configuration(target: Target) -> str:
    """In the words of `Configuration.text`, with the number of devices."""
    streams = f", {target.streams} streams" if target.streams > 1 else ""
    threads = f", {target.threads} threads" if target.threads else ""
    devices = f", {len(target.devices)} devices" if len(target.devices) > 1 else ""
    return f"{target.name}, batch {target.batch_size}{streams}{threads}{devices}"


def _speed_of_trials(found: Measured) -> Speed:
    """A repeat is known by its throughput: as if all its rounds had taken what one did on average."""
    what: Configuration = found.configuration
    return Speed(
        configuration=what.text,
        engine=what.engine,
        precision=what.precision,
        executed_precision=found.executed_precision,
        batch_size=what.batch_size,
        throughput=found.throughput or 0.0,
        rounds_s=tuple((what.batch_size * what.streams / rate,) for rate in found.throughputs if rate),
        doubtful=f"others used the machine in {found.doubtful} of its repeats" if found.doubtful else None,
    )


def _fastest_by_variant(sweep: SweepResult) -> list[Measured]:
    best: dict[str, Measured] = {}
    for found in sorted(sweep.ran, key=lambda found: found.throughput or 0.0):
        best[found.configuration.variant] = found
    return list(best.values())


def _accuracy_of(run: InferResult, accuracy: Accuracy | None, passed: bool | None) -> TargetAccuracy:
    return TargetAccuracy(
        target=target_name(run.engine, run.precision, run.input_dtype),
        engine=run.engine,
        precision=run.precision,
        accuracy=accuracy,
        e2e=run.e2e.throughput or None,
        passed=passed,
    )


class SpeedRow(Result):
    """A configuration's speed in the list of entries. Milliseconds, images a second."""

    configuration: str
    engine: str
    precision: str
    batch_size: int
    throughput: float
    median_ms: float | None
    doubtful: str | None = None


class AccuracyRow(Result):
    """A target's accuracy in the list of entries. `top1` and `top5` are fractions; `e2e` is images a second."""

    target: str
    engine: str
    precision: str
    top1: float | None
    top5: float | None
    images: int | None
    e2e: float | None
    passed: bool | None


class HistoryRow(Result):
    """An entry as it is listed."""

    id: str
    kind: Kind
    started: str
    name: str
    model: str | None
    verdict: Verdict | None
    place: str | None
    machine: str | None
    environment: str | None
    speeds: tuple[SpeedRow, ...]
    accuracies: tuple[AccuracyRow, ...]

    @property
    def short(self) -> str:
        """The id as it is shown, and as it may be typed."""
        return self.id[:10]

    @property
    def best(self) -> SpeedRow | None:
        """The configuration with the most images a second."""
        return max(self.speeds, key=lambda speed: speed.throughput, default=None)

    @property
    def doubtful(self) -> bool:
        """Whether a figure of it was measured on a busy machine."""
        return any(speed.doubtful for speed in self.speeds)
