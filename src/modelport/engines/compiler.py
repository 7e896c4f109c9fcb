"""Compiling in a child process, so that a crash of a vendor's compiler is an error message and not our end."""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import child, files
from ..calibration import CALIBRATION_FILE
from ..errors import CompileError, CompilerDiedError, CompilerTimeoutError, ModelportError
from ..graph import ClassifierGraph, read_classifier
from ..graph.quantized import is_quantized, read_calibration
from ..graph.uint8_input import take_uint8
from ..host import fingerprint
from ..offline import (
    FORMAT_VERSION,
    EngineVersion,
    GpuFingerprint,
    Manifest,
    OfflineModel,
    PrecisionPair,
    TensorSpec,
)
from ..spec import ModelSpec, Precision, Preprocess
from . import load
from .base import CompileOptions, Engine, Plan

_log = logging.getLogger(__name__)


def compile_model(  # noqa: PLR0913
    onnx: Path | str,
    output: Path | str,
    *,
    engine: str,
    options: CompileOptions | None = None,
    preprocess: Preprocess | None = None,
    num_classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    force: bool = False,
    timeout: float | None = None,
) -> OfflineModel:
    """Compile an ONNX classifier into an offline model.

    Args:
        onnx: the classifier; any ONNX file with one NCHW image input and one N x classes output.
        output: directory to make.
        engine: name of the engine.
        options: precision, batch size, input, chip; None takes the engine's own precision and batch 1.
        preprocess: how its images are prepared; None takes what `export` wrote into the file.
        num_classes: for a file that does not say.
        class_names: a name for each class, from class 0; None takes those in the file, if any.
        force: replace `output` if it exists.
        timeout: seconds until the compiler is ended; None waits for ever.

    Returns:
        The offline model, its manifest naming the precision that really executes.

    Raises:
        FormatError: the file is no image classifier, or the preprocessing is unknown or contradicts it.
        EngineUnavailableError: the engine's runtime is not installed.
        CompileError: the compiler refused the graph, crashed, took too long, would silently run another precision, or
            compiles a PyTorch program and got none.
        OutputError: `output` exists.
    """
    job = _prepare(load(engine), onnx, options, preprocess, num_classes)
    job = replace(job, spec=job.spec.named(class_names))
    version = job.engine.version()
    files.refuse_existing(Path(output), force=force)
    if plan := job.engine.plan(job.graph, job.spec, job.options):
        _log.info("compiling with: %s", shlex.join(plan.command))
    return OfflineModel.save(Path(output), partial(job.fill, version, timeout), force=force)


def plan_compile(
    onnx: Path | str,
    *,
    engine: str,
    options: CompileOptions | None = None,
    preprocess: Preprocess | None = None,
    num_classes: int | None = None,
) -> Plan | None:
    """The command that `compile_model` would run, without running it; its compiler need not be installed.

    Returns:
        None for an engine that compiles by no command.

    Raises:
        FormatError: the file is no image classifier, or the preprocessing is unknown or contradicts it.
        CompileError: the engine does not offer what is asked for.
    """
    job = _prepare(load(engine), onnx, options, preprocess, num_classes)
    return job.engine.plan(job.graph, job.spec, job.options)


def _prepare(
    engine: Engine,
    onnx: Path | str,
    options: CompileOptions | None,
    preprocess: Preprocess | None,
    num_classes: int | None,
) -> _Job:
    options = engine.resolve(options or CompileOptions(precision=engine.precisions[0]))
    graph = read_classifier(Path(onnx))
    if engine.from_program and options.program is None:
        raise CompileError(
            f"{graph.path}: {engine.title} compiles PyTorch's own network and not an ONNX file: pass --checkpoint FILE, the weights "
            "that it was exported from (or --random-weights); without them a GPU is served by ONNX Runtime's CUDA provider"
        )
    spec = graph.resolve_spec(preprocess, num_classes)
    graph.require_batch(options.batch_size)
    if options.precision is Precision.INT8 and not is_quantized(graph.path):
        raise CompileError(
            f"{graph.path}: is not quantised, and int8 needs images to calibrate with: pass --calibration DIR, or a QDQ file"
        )
    return _Job(engine=engine, graph=graph, spec=spec, options=options)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One compilation, ready to run."""

    engine: Engine
    graph: ClassifierGraph
    spec: ModelSpec
    options: CompileOptions

    def fill(self, version: str, timeout: float | None, directory: Path) -> Manifest:
        """Compile into `directory` in a child process and describe the result."""
        reply = self._run_child(version, timeout, directory)
        executed = Precision(reply["executed"])
        if executed is not self.options.precision:
            instead = f"compile with --precision {executed}, or on another machine"
            if self.options.precision is Precision.INT8:
                instead = "quantise it for this engine: compile the file that is not quantised, with --calibration DIR"
            raise CompileError(
                f"{self.graph.path}: {self.engine.title} compiled it for {executed} although {self.options.precision} "
                f"was asked for; {instead}"
            )
        names, record = list(reply["files"]), read_calibration(self.graph.path)
        if record is not None:
            record.write(directory / CALIBRATION_FILE)
            names.append(CALIBRATION_FILE)
        size = self.options.batch_size
        channels, height, width = self.spec.preprocess.input_size
        uint8 = reply["uint8_input"]
        return Manifest(
            format_version=FORMAT_VERSION if self.spec.class_names else 1,
            engine=EngineVersion(name=self.engine.name, version=version),
            precision=PrecisionPair(
                requested=self.options.precision, executed=executed, rest=reply["rest"] and Precision(reply["rest"])
            ),
            batch_size=size,
            input=TensorSpec(
                name=self.graph.input_name,
                dtype="uint8" if uint8 else "float32",
                shape=(size, height, width, channels) if uint8 else (size, channels, height, width),
                layout="NHWC" if uint8 else "NCHW",
            ),
            output=TensorSpec(
                name=self.graph.output_name, dtype="float32", shape=(size, self.spec.num_classes), layout="NC"
            ),
            model=self.spec,
            onnx_sha256=self.graph.sha256,
            host=None if self.engine.portable else fingerprint(),
            device=self.options.soc_version,
            calibration=record and record.calibration,
            gpu=GpuFingerprint(**gpu) if (gpu := reply["gpu"]) else None,
            settings=reply["settings"],
            files={name: files.digest(directory / name) for name in names},
        )

    def _run_child(self, version: str, timeout: float | None, directory: Path) -> dict[str, Any]:
        request = {
            "engine": self.engine.name,
            "directory": str(directory.resolve()),
            "onnx": str(self.graph.path.resolve()),
            "spec": self.spec.jsonable(),
            "options": asdict(self.options),
        }
        try:
            return child.ask(__name__, request, timeout=timeout, environment=self.engine.compiler_environment())
        except child.ChildTimeoutError as late:
            raise CompilerTimeoutError(
                f"{self.graph.path}: {self.engine.title} {version}'s compiler was {late} at {self.options.precision}, batch "
                f"{self.options.batch_size}; allow it more time, or try another precision"
            ) from late
        except child.ChildDiedError as death:
            raise CompilerDiedError(
                f"{self.graph.path}: {self.engine.title} {version}'s compiler died ({death.how}) at "
                f"{self.options.precision}, batch {self.options.batch_size}: {death.last}; try another precision or "
                "version of the engine"
            ) from death


def _compile(request: dict[str, Any]) -> dict[str, Any]:
    """The child's side."""
    engine, directory = load(request["engine"]), Path(request["directory"])
    graph, spec = read_classifier(Path(request["onnx"])), ModelSpec.parse(request["spec"], "request")
    options = CompileOptions(**request["options"] | {"precision": Precision(request["options"]["precision"])})
    if options.input_dtype == "float32" or engine.from_program:
        return asdict(engine.compile_into(directory, graph, spec, options))
    with TemporaryDirectory(prefix="modelport-uint8-") as folder:
        changed = take_uint8(graph, spec.preprocess, Path(folder) / graph.path.name)
        try:
            return asdict(engine.compile_into(directory, changed, spec, options)) | {"uint8_input": True}
        except ModelportError as error:  # the user knows the file by its own name
            raise type(error)(str(error).replace(str(changed.path), str(graph.path))) from error


if __name__ == "__main__":
    child.answer(_compile)
