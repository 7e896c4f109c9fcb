"""A whole job: all its targets, and what is needed to repeat it."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from ..spec import ModelSpec, Precision, Preprocess
from .accuracy import Accuracy, Decision, Gate, Paired, Parity, ReferenceAccuracy
from .base import Environment, Result
from .diff import DiffResult
from .optimization import OptimizationResult
from .performance import BenchResult, InferResult, target_name
from .profile import ProfileResult


class TargetResult(Result):
    """All that is known of one engine at one precision.

    Attributes:
        optimization, profile, layers: what a look inside found; None where the recipe asks for none, or the engine shows none.
        rest_precision: of what int8 leaves; None in another precision.
        calibration: how an int8 target was quantised, in a line; None in another precision.
        changed: decisions other than the source's, the surest first; the first few of `paired.changed`.
        mistakes: labelled images taken for another class, the surest first; a few.
    """

    engine: str
    engine_version: str
    precision: Precision
    executed_precision: Precision
    rest_precision: Precision | None = None
    calibration: str | None = None
    accuracy: Accuracy | None
    parity: Parity | None
    paired: Paired | None
    changed: tuple[Decision, ...] = ()
    mistakes: tuple[Decision, ...] = ()
    inference: InferResult
    performance: tuple[BenchResult, ...]
    gate: Gate
    optimization: OptimizationResult | None = None
    profile: ProfileResult | None = None
    layers: DiffResult | None = None

    @property
    def name(self) -> str:
        """Engine, precision and an input other than float32, such as `openvino-bf16`."""
        return target_name(self.engine, self.precision, self.inference.input_dtype)

    @property
    def runs_in(self) -> str:
        """The precision that really executes, such as `bf16`, or `int8, the rest in bf16`."""
        rest = f", the rest in {self.rest_precision}" if self.rest_precision else ""
        return f"{self.executed_precision}{rest}"

    @property
    def best(self) -> BenchResult | None:
        """The batch size with the highest pure-inference throughput."""
        return max(self.performance, key=lambda bench: bench.throughput, default=None)

    @property
    def pure_counterpart(self) -> BenchResult | None:
        """Pure inference at the real-data run's batch size."""
        return next((bench for bench in self.performance if bench.batch_size == self.inference.batch_size), None)

    @computed_field
    @property
    def pure_disagreement(self) -> float | None:
        """Pure inference over the real-data run's interface throughput at the same batch size, less 1: 0.1 is 10 % more.

        The real-data figure counts: random input may not run as real images do, and nothing else runs beside it.
        None where there is no such measurement.
        """
        pure, real = self.pure_counterpart, self.inference.interface.throughput
        return pure.throughput / real - 1 if pure is not None and real else None


class Command(Result):
    """A command line that reproduces one part of the result on its own. `part` is the report's section."""

    part: Literal["model", "accuracy", "performance", "inside"]
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
