"""One target of a job: quantise → compile → infer → count → compare → bench, each a stage that is done once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .accuracy import INFER_FILE, PREDICTIONS_FILE, compare_decisions, compare_scores, count_topn, guide_result, judge
from .commands import Commands
from .data.labels import read_labels
from .data.predictions import Predictions
from .data.source import Source, open_source
from .engines import load
from .engines.base import CompileOptions
from .engines.compiler import compile_model
from .engines.session import BATCH_TIMEOUT_S, Isolation, SessionOptions
from .files import digest, write_text
from .gallery import choose
from .graph import ClassifierGraph
from .host import environment, fingerprint, usable_cores
from .inference import infer
from .inspection import Inspection
from .measure.bench import bench
from .offline import MANIFEST, OfflineModel
from .pipeline import PipelineOptions
from .progress import Progress
from .quantize import QuantizeOptions, Tool, quantize, require_tool
from .recipe import Recipe, TargetSection
from .results import Accuracy, BenchResult, InferResult, TargetResult
from .spec import ModelSpec, Precision
from .stages import Stages
from .work import InferOptions

if TYPE_CHECKING:
    from .cluster.connection import ClusterOptions


@dataclass(frozen=True, slots=True)
class SourceRun:
    """What the source model said of the images."""

    name: str
    predictions: Predictions
    accuracy: Accuracy | None


@dataclass(frozen=True, slots=True)
class Truth:
    """What a target is held against: the labels, and what the source model said."""

    spec: ModelSpec
    labels: dict[str, int]
    source: SourceRun | None


@dataclass(frozen=True, slots=True)
class Way:
    """Where real-data runs are done, and how progress is told."""

    cluster: ClusterOptions | None
    progress: Progress


class Porting:
    """A recipe's targets, one after the other; a method for each step.

    Attributes:
        commands: the command lines that do the same.
        inspection: the looks inside.
    """

    def __init__(self, recipe: Recipe, path: Path, stages: Stages, output: Path, way: Way) -> None:
        self.recipe, self.stages, self.out, self.way = recipe, stages, output, way
        self.commands = Commands(recipe, path)
        self.inspection = Inspection(recipe, stages, self.commands, way.progress)
        self.quantized: dict[Tool, Path] = {}

    def port(self, target: TargetSection, graph: ClassifierGraph, source: Source, truth: Truth) -> TargetResult:
        """All that the report has of a target, from its offline models to its verdict."""
        spec, accuracy, home = truth.spec, self.recipe.accuracy, self.out / target.name
        original = graph.path
        graph, optimization = self.inspection.optimized(target, graph, spec, home)
        if target.precision is Precision.INT8:
            self._quantize(load(target.engine).quantizer, graph, source, spec)
        sizes = sorted({accuracy.batch_size, *self.recipe.performance.batch_sizes})
        models = {size: self.compile(target, size, graph, spec, home / f"batch-{size}") for size in sizes}
        inference, predictions = self._infer(target, models[accuracy.batch_size], source, home)
        measured = count(predictions, truth, limited=self.recipe.data.limit is not None)
        parity = paired = None
        if truth.source is not None:
            tolerance = accuracy.parity if target.precision is Precision.F32 else None
            parity = compare_scores(
                truth.source.predictions, predictions, against=truth.source.name, tolerance=tolerance
            )
            paired = compare_decisions(truth.source.predictions, predictions, truth.labels, against=truth.source.name)
        if measured is not None:
            measured.write(home / "accuracy.json")
            write_text(home / "result.json", guide_result(measured) + "\n")
        model = models[accuracy.batch_size]
        manifest = model.manifest
        changed, mistakes = choose(predictions, truth.labels, truth.source.predictions if truth.source else None)
        return TargetResult(
            engine=target.engine,
            engine_version=manifest.engine.version,
            precision=manifest.precision.requested,
            executed_precision=manifest.precision.executed,
            rest_precision=manifest.precision.rest,
            calibration=manifest.calibration.text if manifest.calibration else None,
            accuracy=measured,
            parity=parity,
            paired=paired,
            changed=changed,
            mistakes=mistakes,
            inference=inference,
            performance=tuple(self._bench(target, models[size], home) for size in self.recipe.performance.batch_sizes),
            gate=judge(
                measured,
                tolerance_points=accuracy.tolerance_points,
                recorded=accuracy.recorded,
                source=truth.source.accuracy if truth.source else None,
                parity=parity,
            ),
            optimization=optimization,
            profile=self.inspection.profile(target, model, home),
            layers=self.inspection.layers(target, (original, self._file(target, graph)), model, source, home),
        )

    def _file(self, target: TargetSection, graph: ClassifierGraph) -> Path:
        """What the target is compiled from."""
        int8 = target.precision is Precision.INT8
        return self.quantized[load(target.engine).quantizer] if int8 else graph.path

    def compile(
        self, target: TargetSection, size: int, graph: ClassifierGraph, spec: ModelSpec, path: Path
    ) -> OfflineModel:
        """The offline model of one batch size, in `path`; an int8 target's graph has been quantised before."""
        file = self._file(target, graph)
        inputs = {
            "onnx": digest(file),
            "spec": spec.jsonable(),
            "target": target.jsonable(),
            "version": load(target.engine).version(),
            "batch": size,
            "host": fingerprint().jsonable(),
        }
        options = CompileOptions(
            precision=target.precision,
            batch_size=size,
            input_dtype=target.input,
            device=target.device,
            tf32=target.tf32,
            autotune=target.autotune,
        )

        def work() -> None:
            with self._with_program(target, options, graph, spec) as found:
                compile_model(file, path, engine=target.engine, options=found, preprocess=spec.preprocess,
                              num_classes=spec.num_classes, class_names=spec.class_names, force=True)  # fmt: skip

        self.stages.run(f"compile {path.relative_to(self.out)}", inputs, [path / MANIFEST], work, path)
        stated = graph.spec is not None and graph.spec.preprocess == spec.preprocess
        self.commands.compile(target, size, graph.path, path, preprocess_stated=stated)
        return OfflineModel.load(path)

    @contextmanager
    def _with_program(
        self, target: TargetSection, options: CompileOptions, graph: ClassifierGraph, spec: ModelSpec
    ) -> Iterator[CompileOptions]:
        """For an engine that compiles PyTorch's network: the options with its program, from the recipe's own weights."""
        model = self.recipe.model
        if not load(target.engine).from_program or model.onnx is not None:
            yield options
            return
        from .exporter.program import TorchWeights, with_program

        with with_program(options, TorchWeights(checkpoint=model.checkpoint), spec, graph.path) as found:
            yield found

    def _quantize(self, tool: Tool, graph: ClassifierGraph, source: Source, spec: ModelSpec) -> None:
        """Quantise for the int8 targets whose engines take this tool's file."""
        calibration, path = self.recipe.calibration, self.out / f"model-int8-{tool}.onnx"
        assert calibration is not None
        images = open_source(calibration.images)
        inputs = {
            "onnx": graph.sha256,
            "spec": spec.jsonable(),
            "calibration": calibration.jsonable(),
            "images": images.digest(),
            "labels": read_labels(calibration.labels) if calibration.labels else None,
            "tool": require_tool(tool),
        }
        options = QuantizeOptions(tool=tool, **calibration.model_dump(exclude={"images"}))

        def work() -> None:
            quantize(graph.path, images, path, options=options, preprocess=spec.preprocess,
                     num_classes=spec.num_classes, evaluation=source, force=True)  # fmt: skip

        self.stages.run(f"quantize {tool}", inputs, [path], work)
        self.quantized[tool] = path

    def _infer(
        self, target: TargetSection, model: OfflineModel, source: Source, home: Path
    ) -> tuple[InferResult, Predictions]:
        directory = home / "predictions"
        session = SessionOptions(streams=target.streams, threads=target.threads)
        inputs = real_data_inputs(self.recipe, source) | {
            "model": digest(model.path / MANIFEST),
            "session": asdict(session),
        }

        def work() -> None:
            options = infer_options(self.recipe, replace(session, isolation=isolation(self.recipe)))
            infer(
                model,
                source,
                directory,
                options=options,
                cluster=self.way.cluster,
                existing="update",
                progress=self.way.progress,
            )

        made = [directory / PREDICTIONS_FILE, directory / INFER_FILE]
        self.stages.run(f"infer {target.name}", inputs, made, work)
        self.commands.infer(target, model.path, home, directory)
        return InferResult.read(directory / INFER_FILE), Predictions.read(directory / PREDICTIONS_FILE)

    def _bench(self, target: TargetSection, model: OfflineModel, home: Path) -> BenchResult:
        plan, size = self.recipe.performance, model.manifest.batch_size
        session = SessionOptions(streams=target.streams, threads=target.threads)
        path = home / f"bench-{size}.json"
        inputs = {
            "model": digest(model.path / MANIFEST),
            "rounds": plan.rounds,
            "warmup": plan.warmup,
            "session": asdict(session),
            "environment": environment().jsonable(),
        }

        def work() -> None:
            bench(model, rounds=plan.rounds, warmup=plan.warmup, options=session, progress=self.way.progress).write(
                path
            )

        self.stages.run(f"bench {home.name} batch {size}", inputs, [path], work)
        self.commands.bench(target, size, model.path)
        return BenchResult.read(path)


def isolation(recipe: Recipe) -> Isolation | None:
    """How the recipe has engines run: in a process of their own, or not."""
    inference = recipe.inference
    return Isolation(batch_timeout=inference.batch_timeout or BATCH_TIMEOUT_S) if inference.isolate else None


def infer_options(recipe: Recipe, session: SessionOptions | None = None) -> InferOptions:
    """Of a real-data run: a target's with its session, or the source's, which is what the others are held against."""
    data = recipe.data
    pipeline = PipelineOptions(decoders=usable_cores(), count_bad_images=data.on_bad_image == "count", keep_scores=True)
    if session is None:
        return InferOptions(limit=data.limit, pipeline=pipeline)
    return InferOptions(limit=data.limit, session=session, pipeline=pipeline, preprocessing=data.preprocessing)


def real_data_inputs(recipe: Recipe, source: Source) -> dict[str, Any]:
    """What every real-data run depends on besides its model."""
    return {
        "images": source.digest(),
        "data": recipe.data.jsonable(),
        "environment": environment().jsonable(),
    }


def count(predictions: Predictions, truth: Truth, *, limited: bool) -> Accuracy | None:
    """TopN against the labels; None where there are none."""
    if not truth.labels:
        return None
    return count_topn(predictions, truth.labels, classes=truth.spec.num_classes, limited=limited)
