"""The main job: recipe → export → compile → infer → evaluate → compare → performance → verdict → report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .accuracy import INFER_FILE, PREDICTIONS_FILE
from .data.class_names import read_class_names
from .data.labels import label_key, read_labels
from .data.predictions import Predictions
from .data.source import Source
from .engines import load, open_model
from .engines.base import CompileOptions
from .engines.session import Session, SessionOptions
from .errors import DataError, EngineUnavailableError
from .files import digest, write_text
from .gallery import thumbnails
from .graph import ClassifierGraph, read_classifier
from .host import environment
from .inference import prepare_source
from .porting import Porting, SourceRun, Truth, Way, count, infer_options, isolation, real_data_inputs
from .printable import printable
from .progress import Progress, silent
from .quantize import require_tool
from .recipe import Recipe, TargetSection
from .report import write_reports
from .results import InferResult, Parity, RunResult, Target
from .resumable import classify
from .spec import ModelSpec, Precision
from .stages import Stages, open_stages
from .work import Work, describe

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
        return _Job(loaded, Path(recipe), stages, output, Way(cluster, progress)).run()


class _Job:
    """One run of a recipe; a method for each step."""

    def __init__(self, recipe: Recipe, path: Path, stages: Stages, output: Path, way: Way) -> None:
        self.recipe, self.path, self.stages, self.out = recipe, path, stages, output
        self.progress = way.progress
        self.porting = Porting(recipe, path, stages, output, way)
        self.warnings: list[str] = []

    def run(self) -> RunResult:
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), perf_counter()
        recipe = self.recipe
        graph, export_parity = self._onnx()
        spec = graph.resolve_spec(recipe.preprocess, recipe.model.num_classes, self._class_names())
        source = self._images(spec)
        labels = {label_key(sample.key): sample.label for sample in source if sample.label is not None}
        truth = Truth(spec, labels | self._label_file(), None)
        if recipe.accuracy.against_source:
            truth = replace(truth, source=self._source_run(graph, source, truth))
        targets = tuple(self.porting.port(target, graph, source, truth) for target in recipe.targets)
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
            warnings=(*self.warnings, *self.porting.inspection.warnings),
            environment=environment(),
            images=len(source),
            source_name=truth.source.name if truth.source else None,
            source_accuracy=truth.source.accuracy if truth.source else None,
            recorded=recipe.accuracy.recorded,
            information=recipe.accuracy.information,
            targets=targets,
            commands=tuple(self.porting.commands.all),
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
        self.porting.commands.export(path)
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

    def _source_run(self, graph: ClassifierGraph, source: Source, truth: Truth) -> SourceRun | None:
        if self.recipe.model.onnx is not None and not _installed("onnxruntime"):
            self.warnings.append(
                "ONNX Runtime is not installed: the ONNX file was not run as it is, no parity is known"
            )
            log.warning(self.warnings[-1])
            return None
        directory, spec = self.out / "source", truth.spec
        inputs = real_data_inputs(self.recipe, source) | {
            "onnx": graph.sha256,
            "spec": spec.jsonable(),
            "batch": self.recipe.accuracy.batch_size,
        }

        def work() -> None:
            with self._open_source(graph, spec) as (session, target):
                options = infer_options(self.recipe)
                plan = Work(target=target, spec=spec, source=source, options=options, identity=graph.sha256)
                classify(session, plan, directory, existing="update", progress=self.progress)

        self.stages.run("source", inputs, [directory / PREDICTIONS_FILE, directory / INFER_FILE], work)
        result = InferResult.read(directory / INFER_FILE)
        predictions = Predictions.read(directory / PREDICTIONS_FILE)
        title = "PyTorch" if result.engine == "pytorch" else load(result.engine).title
        accuracy = count(predictions, truth, limited=self.recipe.data.limit is not None)
        return SourceRun(f"{title} {result.engine_version}", predictions, accuracy)

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
            model = self.porting.compile(target, batch, graph, spec, self.out / "source-model")
            with open_model(model, SessionOptions(isolation=isolation(self.recipe))) as session:
                yield session, describe(model, SessionOptions())


def _installed(engine: str) -> bool:
    try:
        return bool(load(engine).version())
    except EngineUnavailableError:
        return False


def _mismatch(what: str, names: list[str], how: str, other: Path | str) -> str:
    return (
        f"{what} {len(names)} {how} in {other} (first: {names[0]}); mend them, or set data.on_label_mismatch to count"
    )
