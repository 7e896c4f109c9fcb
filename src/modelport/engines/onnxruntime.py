"""ONNX Runtime on the CPU. The offline model is the optimised graph; opening it optimises nothing again."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import CompileError, InferenceError
from ..graph import ClassifierGraph
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from .base import Compiled, CompileOptions, Engine, Session, SessionOptions

_GRAPH = "model.onnx"
_INT8 = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"})
_FLOAT = frozenset({"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
_PROVIDERS = ["CPUExecutionProvider"]
_ERRORS_ONLY = 3  # the runtime's log severity; its warning about hardware-specific graphs is what our manifest is for


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime's CPU provider. It has no bf16 arithmetic."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    extra = "onnxruntime"
    precisions = (Precision.F32, Precision.INT8)
    quantizer = "onnxruntime"

    def _runtime(self) -> ModuleType:
        try:
            import onnxruntime
        except ImportError as error:
            raise self.missing("onnxruntime", error) from error
        onnxruntime.disable_telemetry_events()
        return onnxruntime

    def version(self) -> str:
        return self._runtime().__version__

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        ort = self._runtime()
        fixed = directory / ".fixed.onnx"
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.optimized_model_filepath = str(directory / _GRAPH)
        try:
            _fix_shapes(graph, fixed, options.input_shape(spec.preprocess))
            ort.InferenceSession(fixed, settings, providers=_PROVIDERS)
        except Exception as error:  # the binding raises a dozen unrelated classes
            raise CompileError(f"ONNX Runtime cannot compile {graph.path}: {_first_line(error)}") from error
        finally:
            fixed.unlink(missing_ok=True)
        rest = Precision.F32 if options.precision is Precision.INT8 else None
        return Compiled(files=(_GRAPH,), executed=_executed(directory / _GRAPH), rest=rest)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        ort = self._runtime()
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # done when it was compiled
        if options.threads:
            settings.intra_op_num_threads = max(1, options.threads // options.streams)
        try:
            session = ort.InferenceSession(model.file(_GRAPH), settings, providers=_PROVIDERS)
        except Exception as error:
            raise InferenceError(f"{model.path}: ONNX Runtime cannot open it: {_first_line(error)}") from error
        return OnnxRuntimeSession(model, session, options.streams)


class OnnxRuntimeSession(Session):
    """One runtime session; its `run` may be called from several threads."""

    on_cores = True

    def __init__(self, model: OfflineModel, session: Any, slots: int) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._session = session

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(None, {self.input.name: batch})[0]
        except Exception as error:
            raise InferenceError(f"{self.where}: ONNX Runtime failed: {_first_line(error)}") from error

    def close(self) -> None:
        super().close()
        self._session = None


def _fix_shapes(graph: ClassifierGraph, target: Path, shape: tuple[int, ...]) -> None:
    """Write a copy of the graph whose input has this static shape; the runtime infers the rest."""
    import onnx

    model = onnx.load(graph.path)
    for value in model.graph.input:
        if value.name == graph.input_name:
            for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = size
    output = model.graph.output[0].type.tensor_type.shape
    if output.dim:
        output.dim[0].dim_value = shape[0]
    onnx.save(model, target)


def _executed(path: Path) -> Precision:
    """The precision of most of the optimised graph's convolutions and matrix products."""
    import onnx

    kinds = [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
    int8 = sum(kind in _INT8 for kind in kinds)
    return Precision.INT8 if int8 > sum(kind in _FLOAT for kind in kinds) else Precision.F32


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
