"""The main job: recipe → export → compile → infer → evaluate → compare → performance → verdict → report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .accuracy import INFER_FILE, PREDICTIONS_FILE, compare_decisions, compare_scores, count_topn, guide_result, judge
from .commands import Commands
from .data.class_names import read_class_names
from .data.labels import label_key, read_labels
from .data.predictions import Predictions
from .data.source import Source, open_source
from .engines import load, open_model
from .engines.base import CompileOptions
from .engines.compiler import compile_model
from .engines.session import BATCH_TIMEOUT_S, Isolation, Session, SessionOptions
from .errors import DataError, EngineUnavailableError
from .files import digest, write_text
from .gallery import choose, thumbnails
from .graph import ClassifierGraph, read_classifier
from .host import environment, fingerprint, usable_cores
from .inference import infer, prepare_source
from .inspection import Inspection
from .measure.bench import bench
from .offline import MANIFEST, OfflineModel
from .pipeline import PipelineOptions
from .printable import printable
from .progress import Progress, silent
from .quantize import QuantizeOptions, Tool, quantize, require_tool
from .recipe import Recipe, TargetSection
from .report import write_reports
from .results import Accuracy, BenchResult, InferResult, Parity, RunResult, Target, TargetResult
from .resumable import classify
from .spec import ModelSpec, Precision
from .stages import Stages, open_stages
from .work import InferOptions, Work, describe

if TYPE_CHECKING:
    from .cluster.connection import ClusterOptions

log = logging.getLogger("modelport")


def run(  # noqa: PLR0913
    recipe: Path | str,
    output: Path | str,
    *,
    overrides: dict[str, Any] | None = None,
    cluster: ClusterOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Do a recipe's whole job.

    A second run into the same directory does only what changed; the reports are always written anew.

    Args:
        recipe: YAML file.
        output: directory for everything the job makes; `run.json` and the reports at its top.
        overrides: recipe values by dotted key.
        cluster: spread the targets' real-data runs over a Ray cluster; all else is done here.
        force: start anew where `output` holds anything.
        progress: called in long stages.

    Returns:
        All figures and the verdict, as in `run.json`. A failed gate is a result, not an error.

    Raises:
        ModelportError: anything that keeps a stage from its result; finished stages stay.
    """
    output = Path(output)
    loaded = Recipe.load(recipe, overrides)
    loaded.require_files()
    for target in loaded.targets:
        engine = load(target.engine)
        engine.version()  # before hours of work, not after
        if target.precision is Precision.INT8:
            engine.resolve(CompileOptions(precision=target.precision))
            require_tool(engine.quantizer)
    with open_stages(output, force=force) as stages:
        return _Job(loaded, Path(recipe), stages, output, _Way(cluster, progress)).run()


@dataclass(frozen=True, slots=True)
class _SourceRun:
    """What the source model said of the images."""

    name: str
    predictions: Predictions
    accuracy: Accuracy | None


@dataclass(frozen=True, slots=True)
class _Truth:
    """What a target is held against: the labels, and what the source model said."""

    spec: ModelSpec
    labels: dict[str, int]
    source: _SourceRun | None


@dataclass(frozen=True, slots=True)
class _Way:
    """Where real-data runs are done, and how progress is told."""

    cluster: ClusterOptions | None
    progress: Progress


class _Job:
    """One run of a recipe; a method for each step."""

    def __init__(self, recipe: Recipe, path: Path, stages: Stages, output: Path, way: _Way) -> None:
        self.recipe, self.path, self.stages, self.out = recipe, path, stages, output
        self.cluster, self.progress = way.cluster, way.progress
        self.commands = Commands(recipe, path)
        self.inspection = Inspection(recipe, self.stages, self.commands, way.progress)
        self.warnings: list[str] = []
        self.quantized: dict[Tool, Path] = {}

    def run(self) -> RunResult:
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), perf_counter()
        recipe = self.recipe
        graph, export_parity = self._onnx()
        spec = graph.resolve_spec(recipe.preprocess, recipe.model.num_classes, self._class_names())
        source = self._images(spec)
        labels = {label_key(sample.key): sample.label for sample in source if sample.label is not None}
        truth = _Truth(spec, labels | self._label_file(), None)
        if recipe.accuracy.against_source:
            truth = replace(truth, source=self._source_run(graph, source, truth))
        targets = tuple(self._target(target, graph, source, truth) for target in recipe.targets)
        result = RunResult(
            name=recipe.name,
            started=started,
            wall_s=perf_counter() - begin,
            recipe=printable(str(self.path)),
            model=spec,
            opset=graph.opset,
            onnx_sha256=graph.sha256,
            random_weights=recipe.model.random_weights,
            export_parity=export_parity,
            warnings=(*self.warnings, *self.inspection.warnings),
            environment=environment(),
            images=len(source),
            source_name=truth.source.name if truth.source else None,
            source_accuracy=truth.source.accuracy if truth.source else None,
            recorded=recipe.accuracy.recorded,
            information=recipe.accuracy.information,
            targets=targets,
            commands=tuple(self.commands.all),
        )
        write_reports(result, self.out, thumbnails(source, result))
        return result

    # -- the model

    def _onnx(self) -> tuple[ClassifierGraph, Parity | None]:
        model = self.recipe.model
        if model.onnx is not None:
            return read_classifier(model.onnx), None
        from .exporter import export

        options = self._export_options()
        path, proof, notes = self.out / "model.onnx", self.out / "parity.json", self.out / "warnings.txt"

        def work() -> None:
            result = export(options, path, force=True)
            result.parity.write(proof)
            write_text(notes, "".join(f"{line}\n" for line in result.warnings))

        inputs = {
            "arch": model.arch,
            "weights": digest(model.checkpoint) if model.checkpoint else "random",
            "classes": model.num_classes,
            "preprocess": self.recipe.preprocess and self.recipe.preprocess.jsonable(),
            "export": self.recipe.export.jsonable(),
            "pins": model.pins,
            **({"class_names": names} if (names := self._class_names()) else {}),
            "packages": environment().packages,
        }
        self.stages.run("export", inputs, [path, proof, notes], work)
        self.warnings += notes.read_text(encoding="utf-8").splitlines()
        self.commands.export(path)
        return read_classifier(path), Parity.read(proof)

    def _export_options(self) -> Any:
        from .exporter import ExportOptions

        model, export = self.recipe.model, self.recipe.export
        assert model.arch is not None
        return ExportOptions(
            arch=model.arch,
            checkpoint=model.checkpoint,
            num_classes=model.num_classes,
            preprocess=self.recipe.preprocess,
            opset=export.opset,
            tolerance=export.tolerance,
            pins=model.pins,
            class_names=self._class_names(),
        )

    def _class_names(self) -> tuple[str, ...] | None:
        path = self.recipe.model.class_names
        return read_class_names(path) if path else None

    # -- the images

    def _label_file(self) -> dict[str, int]:
        return read_labels(self.recipe.data.labels) if self.recipe.data.labels else {}

    def _images(self, spec: ModelSpec) -> Source:
        data = self.recipe.data
        full = prepare_source(data.images, data.labels, spec, None)
        if data.labels is not None and data.on_label_mismatch == "fail":
            have, wanted = {label_key(sample.key) for sample in full}, self._label_file()
            if missing := [key for key in wanted if key not in have]:
                raise DataError(_mismatch(f"{data.labels}: labels", missing, "that have no image", data.images))
            if extra := [sample.key for sample in full if sample.label is None]:
                raise DataError(_mismatch(f"{data.images}: holds", extra, "that have no label", data.labels))
        return full.limited(data.limit)

    def _isolation(self) -> Isolation | None:
        inference = self.recipe.inference
        return Isolation(batch_timeout=inference.batch_timeout or BATCH_TIMEOUT_S) if inference.isolate else None

    def _infer_options(self, session: SessionOptions | None = None) -> InferOptions:
        data = self.recipe.data
        pipeline = PipelineOptions(
            decoders=usable_cores(), count_bad_images=data.on_bad_image == "count", keep_scores=True
        )
        if session is None:  # the source, which is what the others are held against
            return InferOptions(limit=data.limit, pipeline=pipeline)
        return InferOptions(limit=data.limit, session=session, pipeline=pipeline, preprocessing=data.preprocessing)

    def _real_data_inputs(self, source: Source) -> dict[str, Any]:
        """What every real-data run depends on besides its model."""
        return {
            "images": source.digest(),
            "data": self.recipe.data.jsonable(),
            "environment": environment().jsonable(),
        }

    def _source_run(self, graph: ClassifierGraph, source: Source, truth: _Truth) -> _SourceRun | None:
        if self.recipe.model.onnx is not None and not _installed("onnxruntime"):
            self.warnings.append(
                "ONNX Runtime is not installed: the ONNX file was not run as it is, no parity is known"
            )
            log.warning(self.warnings[-1])
            return None
        directory, spec = self.out / "source", truth.spec
        inputs = self._real_data_inputs(source) | {
            "onnx": graph.sha256,
            "spec": spec.jsonable(),
            "batch": self.recipe.accuracy.batch_size,
        }

        def work() -> None:
            with self._open_source(graph, spec) as (session, target):
                options = self._infer_options()
                plan = Work(target=target, spec=spec, source=source, options=options, identity=graph.sha256)
                classify(session, plan, directory, existing="update", progress=self.progress)

        self.stages.run("source", inputs, [directory / PREDICTIONS_FILE, directory / INFER_FILE], work)
        result = InferResult.read(directory / INFER_FILE)
        predictions = Predictions.read(directory / PREDICTIONS_FILE)
        title = "PyTorch" if result.engine == "pytorch" else load(result.engine).title
        accuracy = _count(predictions, truth, limited=self.recipe.data.limit is not None)
        return _SourceRun(f"{title} {result.engine_version}", predictions, accuracy)

    @contextmanager
    def _open_source(self, graph: ClassifierGraph, spec: ModelSpec) -> Iterator[tuple[Session, Target]]:
        """PyTorch with the checkpoint; for an ONNX file, ONNX Runtime in f32."""
        batch = self.recipe.accuracy.batch_size
        if self.recipe.model.onnx is None:
            from .exporter.export import load_network
            from .exporter.reference import TorchSession

            network, _, _ = load_network(self._export_options())
            with TorchSession(network, spec, batch) as session:
                yield session, session.target
        else:
            target = TargetSection(engine="onnxruntime")
            model = self._compile(target, batch, graph, spec, self.out / "source-model")
            with open_model(model, SessionOptions(isolation=self._isolation())) as session:
                yield session, describe(model, SessionOptions())

    # -- one target

    def _target(self, target: TargetSection, graph: ClassifierGraph, source: Source, truth: _Truth) -> TargetResult:
        spec, accuracy, home = truth.spec, self.recipe.accuracy, self.out / target.name
        original = graph.path
        graph, optimization = self.inspection.optimized(target, graph, spec, home)
        if target.precision is Precision.INT8:
            self._quantize(load(target.engine).quantizer, graph, source, spec)
        sizes = sorted({accuracy.batch_size, *self.recipe.performance.batch_sizes})
        models = {size: self._compile(target, size, graph, spec, home / f"batch-{size}") for size in sizes}
        inference, predictions = self._infer(target, models[accuracy.batch_size], source, home)
        measured = _count(predictions, truth, limited=self.recipe.data.limit is not None)
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

    def _compile(
        self, target: TargetSection, size: int, graph: ClassifierGraph, spec: ModelSpec, path: Path
    ) -> OfflineModel:
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
        inputs = self._real_data_inputs(source) | {"model": digest(model.path / MANIFEST), "session": asdict(session)}

        def work() -> None:
            options = self._infer_options(replace(session, isolation=self._isolation()))
            infer(
                model,
                source,
                directory,
                options=options,
                cluster=self.cluster,
                existing="update",
                progress=self.progress,
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
            bench(model, rounds=plan.rounds, warmup=plan.warmup, options=session, progress=self.progress).write(path)

        self.stages.run(f"bench {home.name} batch {size}", inputs, [path], work)
        self.commands.bench(target, size, model.path)
        return BenchResult.read(path)


def _count(predictions: Predictions, truth: _Truth, *, limited: bool) -> Accuracy | None:
    if not truth.labels:
        return None
    return count_topn(predictions, truth.labels, classes=truth.spec.num_classes, limited=limited)


def _installed(engine: str) -> bool:
    try:
        return bool(load(engine).version())
    except EngineUnavailableError:
        return False


def _mismatch(what: str, names: list[str], how: str, other: Path | str) -> str:
    return (
        f"{what} {len(names)} {how} in {other} (first: {names[0]}); mend them, or set data.on_label_mismatch to count"
    )
