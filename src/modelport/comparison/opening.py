"""What can be compared: an ONNX file as it is, a model of an engine, an fp16 emulation, a checkpoint; opened by name."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import engines
from ..engines.base import CompileOptions, Engine
from ..errors import CompileError, FormatError
from ..exporter.checkpoint import SUFFIXES
from ..files import digest
from ..graph import ClassifierGraph, read_classifier
from ..graph.fp16 import emulate_fp16
from ..graph.quantized import is_quantized
from ..graph.uint8_input import take_uint8
from ..offline import OfflineModel
from ..results.diff import Side
from ..spec import Precision, Preprocess
from .network import Network
from .stages import PLAIN_ENGINE, OnnxStage, Stage, TorchStage

if TYPE_CHECKING:
    from ..exporter.export import ExportOptions

_EMULATION = "emulation:fp16"
log = logging.getLogger("modelport")
_LOOK_UP = 3  # folders above an offline model in which its ONNX file is looked for: `run` puts it two above


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What may be needed to open a stage.

    Attributes:
        onnx: files that offline models may have been compiled from.
        preprocess, num_classes: for an ONNX file that does not say.
        export: how a checkpoint's network is built.
    """

    onnx: tuple[Path, ...] = ()
    preprocess: Preprocess | None = None
    num_classes: int | None = None
    export: ExportOptions | None = None


class Opener:
    """Opens the stages of one comparison; what it writes for them lies in one folder."""

    def __init__(self, request: Request, folder: Path) -> None:
        self._request, self._folder = request, folder

    def open_both(self, a: str, b: str) -> tuple[Stage, OnnxStage]:
        """Both stages; a checkpoint, of which there can be one, becomes the first: it is what the model was trained in.

        Raises:
            FormatError: as for `open`; or both are checkpoints, or one is held against a quantised file.
            CheckpointError: a checkpoint cannot be read, or does not fit.
            EngineUnavailableError: an engine is not installed.
        """
        if _is_checkpoint(b) and not _is_checkpoint(a):
            log.info("%s is the reference: it is what the model was trained in", b)
            a, b = b, a
        if not _is_checkpoint(a):
            return self.open(a, b), self.open(b, a)
        if _is_checkpoint(b):
            raise FormatError(
                f"{a} and {b} are both checkpoints: compare one with what became of it, such as its ONNX file"
            )
        second = self.open(b, a)
        if is_quantized(Path(second.side.onnx or "")):
            raise FormatError(
                f"{b}: is quantised, and its weights are no longer the checkpoint's: compare {a} with the float ONNX file, and "
                "that with this one"
            )
        return self.open_checkpoint(a, second), second

    def open(self, name: str, other: str) -> OnnxStage:
        """The stage that `name` means; `other` is the other one, whose graph an engine alone takes.

        Raises:
            FormatError: it is no such thing, or the ONNX file of an offline model is not there.
            EngineUnavailableError: its engine is not installed.
        """
        path = Path(name)
        if path.is_dir():
            return self._offline(OfflineModel.load(path), name, self._files(other))
        if path.suffix == ".onnx":
            return self._plain(read_classifier(path), name)
        if name == _EMULATION:
            return self._emulation(self._graph_of(name, other), name)
        if found := re.fullmatch(r"([a-z]+):(f32|bf16|fp16|int8)", name):
            return self._engine(found[1], Precision(found[2]), self._graph_of(name, other), name)
        what = "no such file or directory" if not path.exists() else "is none of these"
        raise FormatError(
            f"{name}: {what}; compare an ONNX file, an offline model, ENGINE:PRECISION (such as openvino:bf16), {_EMULATION}, or "
            f"a checkpoint ({', '.join(SUFFIXES)}) with --arch or --recipe"
        )

    def open_checkpoint(self, name: str, other: OnnxStage) -> TorchStage:
        """The checkpoint's network, seen through the other stage's graph.

        Raises:
            FormatError: nothing says what network it is of.
            CheckpointError: it cannot be read, or does not fit.
        """
        from ..exporter.export import load_network
        from ..exporter.taps import TorchTaps, runtime_version

        if self._request.export is None:
            raise FormatError(f"{name}: which network? Say its architecture with --arch, or give --recipe")
        options = replace(self._request.export, checkpoint=Path(name), preprocess=other.spec.preprocess)
        if options.num_classes is None:
            options = replace(options, num_classes=other.spec.num_classes)
        network, spec, _ = load_network(options)
        example = np.zeros((2, *spec.preprocess.input_size), np.float32)
        taps = TorchTaps(network, other.network.whole(), example)
        side = Side(
            name=name, kind="checkpoint", runs=f"PyTorch {runtime_version()} in f32", engine=None, precision="f32", exact=True,
            onnx=None, onnx_sha256=None,
        )  # fmt: skip
        return TorchStage(side=side, spec=spec, taps=taps, output=other.network.output)

    def _plain(self, graph: ClassifierGraph, name: str) -> OnnxStage:
        engine = engines.load(PLAIN_ENGINE)
        quantised = is_quantized(graph.path)
        note = "int8 simulated, " if quantised else ""
        return self._stage(
            graph, name, engine, Precision.F32, plain=True, kind="onnx", exact=not quantised, executed="int8" if quantised else "f32",
            runs=f"{engine.title} {engine.version()}, {note}operator by operator in f32",
        )  # fmt: skip

    def _emulation(self, graph: ClassifierGraph, name: str) -> OnnxStage:
        engine = engines.load(PLAIN_ENGINE)
        path = emulate_fp16(graph, self._folder / f"fp16-{graph.path.name}").path
        return self._stage(
            graph, name, engine, Precision.F32, plain=True, kind="fp16 emulation", exact=False, executed="fp16", path=path,
            runs=f"{engine.title} {engine.version()}, every result rounded to fp16",
        )  # fmt: skip

    def _engine(self, engine_name: str, precision: Precision, graph: ClassifierGraph, name: str) -> OnnxStage:
        engine = engines.load(engine_name)
        engine.resolve(CompileOptions(precision=precision))
        if precision is Precision.INT8 and not is_quantized(graph.path):
            raise CompileError(f"{name}: {graph.path} is not quantised: give the quantised file with --onnx")
        return self._stage(
            graph, name, engine, precision, plain=False, kind="engine", exact=precision is Precision.F32 and not is_quantized(graph.path),
            executed=precision, runs=f"{engine.title} {engine.version()} in {precision}",
        )  # fmt: skip

    def _offline(self, model: OfflineModel, name: str, beside: tuple[Path, ...]) -> OnnxStage:
        manifest = model.manifest
        engine = engines.load(manifest.engine.name)
        path = _find_source(model, (*self._request.onnx, *beside))
        graph, executed = read_classifier(path), manifest.precision.executed
        pixels = manifest.input.dtype == "uint8"
        if pixels:
            path = take_uint8(graph, manifest.model.preprocess, self._folder / f"uint8-{path.name}").path
        return self._stage(
            graph, name, engine, executed, plain=False, kind="offline model",
            exact=executed is Precision.F32 and not is_quantized(graph.path), executed=executed,
            runs=f"{engine.title} {manifest.engine.version} in {executed}, batch {manifest.batch_size}", path=path,
            model=model, pixels=pixels,
        )  # fmt: skip

    def _stage(self, graph: ClassifierGraph, name: str, engine: Engine, precision: Precision, **more: Any) -> OnnxStage:
        model: OfflineModel | None = more.pop("model", None)
        side = Side(
            name=name,
            kind=more.pop("kind"),
            runs=more.pop("runs"),
            engine=engine.name,
            precision=str(more.pop("executed")),
            exact=more.pop("exact"),
            onnx=str(graph.path),
            onnx_sha256=graph.sha256,
        )
        if model is not None:
            spec, batch = model.manifest.model, model.manifest.batch_size
        else:
            spec = graph.resolve_spec(self._request.preprocess, self._request.num_classes)
            batch = graph.batch_size
        network = Network.read(graph, spec.preprocess.input_size, self._folder, more.pop("path", None))
        return OnnxStage(
            side=side, spec=spec, network=network, engine=engine, precision=precision, batch=batch, model=model, folder=self._folder, **more
        )  # fmt: skip

    def _graph_of(self, name: str, other: str) -> ClassifierGraph:
        """The graph for an engine that is given without one: `--onnx`, or that of the other side."""
        files = (*self._request.onnx, *self._files(other))
        if not files:
            raise FormatError(f"{name}: which graph? The other side, {other}, is no ONNX file: pass --onnx FILE")
        return read_classifier(files[0])

    @staticmethod
    def _files(other: str) -> tuple[Path, ...]:
        return (Path(other),) if other.endswith(".onnx") else ()


def _is_checkpoint(name: str) -> bool:
    return name.endswith(SUFFIXES) and not Path(name).is_dir()


def _find_source(model: OfflineModel, given: tuple[Path, ...]) -> Path:
    """The ONNX file that an offline model was compiled from, by its digest: among the given ones, or in folders above it."""
    wanted = model.manifest.onnx_sha256
    folders = model.path.resolve().parents[:_LOOK_UP]
    beside = [path for folder in folders for path in sorted(folder.glob("*.onnx"))]
    for path in (*given, *beside):
        if path.is_file() and digest(path) == wanted:
            return path
    where = (
        f"{model.path}: its tensors can only be looked at in the ONNX file it was compiled from (sha256 {wanted[:12]}…)"
    )
    if given:
        told = ", ".join(
            f"{path} (sha256 {digest(path)[:12]}…)" if path.is_file() else f"{path} (not there)" for path in given
        )
        raise FormatError(f"{where}, which is not {told}; pass that file with --onnx")
    raise FormatError(f"{where}, and it does not lie beside the model: pass it with --onnx FILE")
