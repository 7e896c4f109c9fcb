"""ONNX Runtime on the CPU, and on NVIDIA GPUs by its CUDA and TensorRT providers (`onnxruntime_gpu`).

The offline model is the optimised graph, or TensorRT's engine in one; opening it optimises nothing again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import CompileError, EngineUnavailableError, InferenceError
from ..graph import ClassifierGraph
from ..graph.precheck import read_model
from ..graph.source import write_source
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from ..telemetry import switch_off
from .base import Compiled, CompileOptions, Engine, Taps, read_source
from .onnxruntime_gpu import (
    KINDS,
    BoundSession,
    compile_on_gpu,
    create_on_gpu,
    kind_of,
    require_provider,
    require_same_gpu,
    settings_of,
)
from .onnxruntime_trace import CHAIN_INPUT, CHAIN_LENGTH, Trace, chain, read_operators, read_trace
from .session import OperatorTimes, Session, SessionOptions

_GRAPH = "model.onnx"
_INT8 = frozenset({"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"})
_FLOAT = frozenset({"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
_PROVIDERS = ["CPUExecutionProvider"]
_ERRORS_ONLY = 3  # the runtime's log severity; its warning about hardware-specific graphs is what our manifest is for


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime. It has no bf16 arithmetic on the CPU, and gets a float32 graph on a GPU."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    extra = "onnxruntime"
    precisions = (Precision.F32, Precision.INT8)
    quantizer = "onnxruntime"
    counters = True
    device_kinds = ("cpu", *KINDS)
    batches_in_flight = 2

    def on_accelerator(self, model: OfflineModel) -> bool:
        return model.manifest.gpu is not None

    def resolve(self, options: CompileOptions) -> CompileOptions:
        if options.device in KINDS and options.precision is not Precision.F32:
            raise CompileError(
                f"{self.title} does not offer {options.precision} on a GPU here; it offers f32. For fp16 and bf16 on a GPU "
                "compile the checkpoint with --engine inductor"
            )
        return super().resolve(options)

    def _runtime(self) -> ModuleType:
        switch_off()
        try:
            import onnxruntime
        except ImportError as error:
            raise self.missing("onnxruntime", error) from error
        onnxruntime.disable_telemetry_events()
        return onnxruntime

    def version(self) -> str:
        return self._runtime().__version__

    def devices(self) -> dict[str, str]:
        return dict.fromkeys(self._runtime().get_available_providers(), "")

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        ort, gpu = self._runtime(), None
        fixed, target = directory / ".fixed.onnx", directory / _GRAPH
        settings = self._settings(ort, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        try:
            _fix_shapes(graph, fixed, options.input_shape(spec.preprocess))
            if options.device in KINDS:
                gpu = compile_on_gpu(ort, fixed, settings, str(options.device), target)
            else:
                settings.optimized_model_filepath = str(target)
                ort.InferenceSession(fixed, settings, providers=_PROVIDERS)
        except EngineUnavailableError:
            raise
        except Exception as error:  # the binding raises a dozen unrelated classes
            raise CompileError(f"ONNX Runtime cannot compile {graph.path}: {_first_line(error)}") from error
        finally:
            fixed.unlink(missing_ok=True)
        return Compiled(
            files=(_GRAPH, write_source(graph.path, directory)),
            executed=_executed(target),
            rest=Precision.F32 if options.precision is Precision.INT8 else None,
            gpu=gpu,
            settings=settings_of(str(options.device)) if gpu else {},
        )

    def _settings(self, ort: ModuleType, level: Any) -> Any:
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.graph_optimization_level = level
        return settings

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        if (kind := kind_of(model)) in KINDS:
            return self._open_on_gpu(model, options, kind)
        create = partial(_create, self._runtime(), max(1, options.threads // options.streams) if options.threads else 0)
        try:
            read_model(model.file(_GRAPH))  # refuses weights that lie elsewhere, which the manifest would not have seen
            session = create(model.file(_GRAPH))
        except Exception as error:
            raise InferenceError(f"{model.path}: ONNX Runtime cannot open it: {_first_line(error)}") from error
        return OnnxRuntimeSession(model, session, options.streams, create if options.profile else None)

    def _open_on_gpu(self, model: OfflineModel, options: SessionOptions, kind: str) -> Session:
        ort, number = self._runtime(), options.devices[0]
        if options.profile:
            raise InferenceError(
                f"{model.path}: operators are timed on the processor only by this engine; profile a model of --engine inductor"
            )
        require_provider(ort, kind)
        require_same_gpu(model, number)
        settings = self._settings(ort, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        try:
            read_model(model.file(_GRAPH))
            session = create_on_gpu(ort, model.file(_GRAPH), settings, kind, number)
            return BoundSession(model, ort, session, options.streams or 1, ("cuda", number))
        except EngineUnavailableError:
            raise
        except Exception as error:
            raise InferenceError(f"{model.path}: ONNX Runtime cannot open it: {_first_line(error)}") from error

    def tap(self, onnx: Path, precision: Precision, *, plain: bool = False) -> Taps:
        self.resolve(CompileOptions(precision=precision))
        ort = self._runtime()
        level = ort.GraphOptimizationLevel
        settings = self._settings(ort, level.ORT_DISABLE_ALL if plain else level.ORT_ENABLE_ALL)
        try:
            session = ort.InferenceSession(onnx, settings, providers=_PROVIDERS)
        except Exception as error:
            raise CompileError(
                f"ONNX Runtime cannot compile {onnx.name} with tapped tensors: {_first_line(error)}"
            ) from error
        names = [output.name for output in session.get_outputs()]

        def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            try:
                return dict(zip(names, session.run(names, feeds), strict=True))
            except Exception as error:
                raise InferenceError(f"{onnx.name}: ONNX Runtime failed: {_first_line(error)}") from error

        return run


class OnnxRuntimeSession(Session):
    """One runtime session; its `run` may be called from several threads."""

    on_cores = True

    def __init__(self, model: OfflineModel, session: Any, slots: int, create: Callable[..., Any] | None = None) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._model, self._session, self._create = model, session, create

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(None, {self.input.name: batch})[0]
        except Exception as error:
            raise InferenceError(f"{self.where}: ONNX Runtime failed: {_first_line(error)}") from error

    def _profile(self, batch: np.ndarray, warmup: int, rounds: int) -> OperatorTimes:
        assert self._create is not None
        try:
            cost = self._counter_cost()
            trace, latencies = self._traced(self._model.file(_GRAPH), {self.input.name: batch}, warmup, rounds)
        except InferenceError:
            raise
        except Exception as error:
            raise InferenceError(f"{self.where}: ONNX Runtime failed: {_first_line(error)}") from error
        return OperatorTimes(
            operators=read_operators(trace, self._model.file(_GRAPH), read_source(self._model), self.input.layout),
            durations_us=np.maximum(0.0, trace.durations_us - cost),
            gaps_us=trace.gaps_us,
            latencies_s=latencies,
            counter_us=cost,
        )

    def _traced(
        self, graph: Path | bytes, feeds: dict[str, np.ndarray], warmup: int, rounds: int
    ) -> tuple[Trace, tuple[float, ...]]:
        """Run a graph in a session of its own that writes a trace."""
        with TemporaryDirectory(prefix="modelport-") as folder:
            session = self._create(graph, str(Path(folder) / "trace"))
            latencies = _time_rounds(session, feeds, warmup + rounds)
            return read_trace(Path(session.end_profiling()), warmup), latencies[warmup:]

    def _counter_cost(self) -> float:
        """How many microseconds longer an operator's event is than the operator, here and now."""
        feeds, rounds = {CHAIN_INPUT: np.zeros(1, np.float32)}, 20
        plain = _time_rounds(self._create(chain()), feeds, 2 * rounds)[rounds:]
        trace, _ = self._traced(chain(), feeds, rounds, rounds)
        return max(0.0, float(np.median(trace.durations_us.mean(axis=1)) - np.median(plain) * 1e6 / CHAIN_LENGTH))

    def close(self) -> None:
        super().close()
        self._session = self._create = None


def _create(ort: ModuleType, threads: int, graph: Path | bytes, trace: str | None = None) -> Any:
    """A session of an optimised graph; `trace` is the path that its trace file's name begins with."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # done when it was compiled
    settings.intra_op_num_threads = threads  # 0: the runtime's choice
    if trace is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, trace
    return ort.InferenceSession(graph, settings, providers=_PROVIDERS)


def _time_rounds(session: Any, feeds: dict[str, np.ndarray], rounds: int) -> tuple[float, ...]:
    latencies = []
    for _ in range(rounds):
        start = perf_counter()
        session.run(None, feeds)
        latencies.append(perf_counter() - start)
    return tuple(latencies)


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
