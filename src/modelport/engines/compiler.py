"""Compiling in a child process, so that a crash of a vendor's compiler is an error message and not our end."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .. import errors, files
from ..errors import CompileError
from ..graph import ClassifierGraph, read_classifier
from ..host import fingerprint
from ..offline import EngineVersion, Manifest, OfflineModel, PrecisionPair, TensorSpec
from ..spec import ModelSpec, Precision, Preprocess
from . import load
from .base import CompileOptions, Engine, Plan

_REPLY = "modelport-reply:"
_log = logging.getLogger(__name__)


def compile_model(  # noqa: PLR0913
    onnx: Path | str,
    output: Path | str,
    *,
    engine: str,
    options: CompileOptions | None = None,
    preprocess: Preprocess | None = None,
    num_classes: int | None = None,
    force: bool = False,
) -> OfflineModel:
    """Compile an ONNX classifier into an offline model.

    Args:
        onnx: the classifier; any ONNX file with one NCHW image input and one N x classes output.
        output: directory to make.
        engine: name of the engine.
        options: precision, batch size, chip; None takes the engine's own precision and batch 1.
        preprocess: how its images are prepared; None takes what `export` wrote into the file.
        num_classes: for a file that does not say.
        force: replace `output` if it exists.

    Returns:
        The offline model, its manifest naming the precision that really executes.

    Raises:
        FormatError: the file is no image classifier, or the preprocessing is unknown or contradicts it.
        EngineUnavailableError: the engine's runtime is not installed.
        CompileError: the compiler refused the graph, crashed, or would silently run another precision.
        OutputError: `output` exists.
    """
    job = _prepare(load(engine), onnx, options, preprocess, num_classes)
    version = job.engine.version()
    files.refuse_existing(Path(output), force=force)
    if plan := job.engine.plan(job.graph, job.spec, job.options):
        _log.info("compiling with: %s", shlex.join(plan.command))
    return OfflineModel.save(Path(output), partial(job.fill, version), force=force)


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
    spec = graph.resolve_spec(preprocess, num_classes)
    graph.require_batch(options.batch_size)
    return _Job(engine=engine, graph=graph, spec=spec, options=options)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One compilation, ready to run."""

    engine: Engine
    graph: ClassifierGraph
    spec: ModelSpec
    options: CompileOptions

    def fill(self, version: str, directory: Path) -> Manifest:
        """Compile into `directory` in a child process and describe the result."""
        reply = self._run_child(version, directory)
        executed = Precision(reply["executed"])
        if executed is not self.options.precision:
            raise CompileError(
                f"{self.graph.path}: {self.engine.title} compiled it for {executed} although {self.options.precision} "
                f"was asked for; compile with --precision {executed}, or on another machine"
            )
        size = self.options.batch_size
        channels, height, width = self.spec.preprocess.input_size
        uint8 = reply["uint8_input"]
        return Manifest(
            engine=EngineVersion(name=self.engine.name, version=version),
            precision=PrecisionPair(requested=self.options.precision, executed=executed),
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
            files={name: files.digest(directory / name) for name in reply["files"]},
        )

    def _run_child(self, version: str, directory: Path) -> dict[str, Any]:
        request = {
            "engine": self.engine.name,
            "directory": str(directory.resolve()),
            "onnx": str(self.graph.path.resolve()),
            "spec": self.spec.jsonable(),
            "options": asdict(self.options),
        }
        child = subprocess.run(
            # -P: nothing is imported from the working directory, where a user's numpy.py might lie.
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        line = next((line for line in child.stdout.splitlines() if line.startswith(_REPLY)), None)
        if child.returncode == 0 and line:
            reply = json.loads(line.removeprefix(_REPLY))
            if "error" in reply:
                raise getattr(errors, reply["error"])(reply["message"])
            return reply
        how = _signal_name(-child.returncode) if child.returncode < 0 else f"exit code {child.returncode}"
        last = child.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise CompileError(
            f"{self.graph.path}: {self.engine.title} {version}'s compiler died ({how}) at {self.options.precision}, "
            f"batch {self.options.batch_size}: {last[0]}; try another precision or version of the engine"
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _child() -> None:
    """The child's side: one request on stdin, one reply line on stdout."""
    request = json.load(sys.stdin)
    try:
        graph = read_classifier(Path(request["onnx"]))
        compiled = load(request["engine"]).compile_into(
            Path(request["directory"]),
            graph,
            ModelSpec.parse(request["spec"], "request"),
            CompileOptions(**request["options"] | {"precision": Precision(request["options"]["precision"])}),
        )
        reply: dict[str, Any] = asdict(compiled)
    except errors.ModelportError as error:
        reply = {"error": type(error).__name__, "message": str(error)}
    print(_REPLY + json.dumps(reply), flush=True)


if __name__ == "__main__":
    _child()
