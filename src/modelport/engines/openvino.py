"""OpenVINO on the CPU. The offline model is the exported blob of a compiled model; opening it compiles nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import CompileError, InferenceError
from ..graph import ClassifierGraph
from ..graph.source import write_source
from ..offline import OfflineModel
from ..spec import ModelSpec, Precision
from ..telemetry import without_reporter
from .base import Compiled, CompileOptions, Engine, Taps, read_source
from .openvino_counters import CUT_OFF_US, block_means, read_operators, read_totals
from .openvino_quantized import restore_fake_quantize
from .session import OperatorTimes, Session, SessionOptions

_BLOB = "model.blob"
# INFERENCE_PRECISION_HINT is always set: left alone, the plugin picks bf16 on a CPU that has it, silently, and it does
# so again when a blob that was compiled for f32 is imported without the hint.
_HINT = {Precision.F32: "f32", Precision.BF16: "bf16"}
_EXECUTED = {"f32": Precision.F32, "bf16": Precision.BF16, "i8": Precision.INT8, "u8": Precision.INT8}
_first_use = Lock()
_CAPABILITY = {Precision.BF16: "BF16", Precision.INT8: "INT8"}  # as the plugin names what this CPU computes in


class OpenVinoEngine(Engine):
    """OpenVINO's CPU plugin."""

    name = "openvino"
    title = "OpenVINO"
    extra = "openvino"
    precisions = (Precision.F32, Precision.BF16, Precision.INT8)
    counters = True

    def _runtime(self) -> ModuleType:
        try:
            with without_reporter():
                import openvino
        except ImportError as error:
            raise self.missing("openvino", error) from error
        # The binding's table of types is made at its first use: whoever makes it lets go of Python's lock, and another thread
        # that holds it then waits for the table, for ever. Two streams' first batches did that.
        with _first_use:
            openvino.Type.f32.to_dtype()
        return openvino

    def version(self) -> str:
        return "-".join(self._runtime().__version__.split("-")[:2])  # release and build; the rest repeats them

    def devices(self) -> dict[str, str]:
        core = self._runtime().Core()
        return {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices}

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        openvino = self._runtime()
        core = openvino.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if _CAPABILITY.get(options.precision, "FP32") not in capabilities:
            raise CompileError(
                f"OpenVINO has no {options.precision} arithmetic on this CPU; compile with --precision f32"
            )
        rest = None
        if options.precision is Precision.INT8:
            rest = Precision.BF16 if "BF16" in capabilities else Precision.F32
        try:
            model = core.read_model(graph.path)
            model.reshape({graph.input_name: list(options.input_shape(spec.preprocess))})
            if options.precision is Precision.INT8:
                restore_fake_quantize(openvino.opset13, model)
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": _HINT[rest or options.precision]})
            executed = executed_precision(compiled)
            (directory / _BLOB).write_bytes(compiled.export_model().getvalue())
        except RuntimeError as error:
            raise CompileError(f"OpenVINO cannot compile {graph.path}: {_first_line(error)}") from error
        return Compiled(files=(_BLOB, write_source(graph.path, directory)), executed=executed, rest=rest)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        openvino = self._runtime()
        precision = model.manifest.precision
        executed, hint = precision.executed, _HINT[precision.rest or precision.executed]
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": options.streams}
        if options.threads:
            config["INFERENCE_NUM_THREADS"] = options.threads
        if options.cores:  # without reserving them, every session of a process pins its threads to the first cores
            config |= {"ENABLE_CPU_PINNING": True, "ENABLE_CPU_RESERVATION": True}
        if options.profile:
            config["PERF_COUNT"] = True
        reopen = partial(openvino.Core().import_model, model.file(_BLOB).read_bytes(), "CPU", config)
        with _translated(str(model.path)):
            compiled = reopen()
            found = executed_precision(compiled)
        if found is not executed:
            raise InferenceError(
                f"{model.path}: OpenVINO opened it in {found}, the manifest says {executed}; compile it again"
            )
        return OpenVinoSession(model, compiled, options.streams, reopen if options.profile else None)

    def tap(self, onnx: Path, precision: Precision, *, plain: bool = False) -> Taps:
        self.resolve(CompileOptions(precision=precision))
        if plain:
            raise CompileError("OpenVINO has no plain execution, operator by operator")
        from onnx import load as load_onnx

        openvino = self._runtime()
        core = openvino.Core()
        hint = precision
        if precision is Precision.INT8:
            hint = Precision.BF16 if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else Precision.F32
        try:
            model = core.read_model(onnx)
            if precision is Precision.INT8:
                restore_fake_quantize(openvino.opset13, model)
            names = [
                value.name for value in load_onnx(onnx, load_external_data=False).graph.output
            ]  # in the same order
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": _HINT[hint]})
            found = executed_precision(compiled)
        except RuntimeError as error:
            raise CompileError(
                f"OpenVINO cannot compile {onnx.name} with tapped tensors: {_first_line(error)}"
            ) from error
        if found is not precision:
            raise CompileError(f"OpenVINO compiled {onnx.name} with tapped tensors for {found} instead of {precision}")

        def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with _translated(onnx.name):
                results = compiled(feeds, share_outputs=True)
                return {name: results[index].copy() for index, name in enumerate(names)}

        return run


class OpenVinoSession(Session):
    """One infer request per stream, handed out to the calling threads."""

    on_cores = True

    def __init__(self, model: OfflineModel, compiled: Any, slots: int, reopen: Callable[[], Any] | None = None) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._model, self._reopen = model, reopen
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(slots):
            self._requests.put(compiled.create_infer_request())

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        request = self._requests.get()
        try:
            with _translated(self.where):
                # Shared both ways: the request reads the caller's buffer in place; the copy below is the only one.
                return request.infer({0: batch}, share_inputs=True, share_outputs=True)[0].copy()
        finally:
            self._requests.put(request)

    def _profile(self, batch: np.ndarray, warmup: int, rounds: int) -> OperatorTimes:
        assert self._reopen is not None
        with _translated(self.where):
            compiled = self._reopen()  # its counters begin at nothing
            request, latencies = compiled.create_infer_request(), []
            for number in range(warmup + rounds):
                if number == warmup:
                    before = read_totals(request.profiling_info, warmup)
                start = perf_counter()
                request.infer({0: batch}, share_inputs=True, share_outputs=True)
                latencies.append(perf_counter() - start)
            profile = request.profiling_info
            operators = read_operators(compiled, profile, read_source(self._model), self.input.layout)
        after = read_totals(profile, warmup + rounds)
        return OperatorTimes(
            operators=operators,
            durations_us=block_means(before, after, [operator.name for operator in operators], rounds),
            gaps_us=None,
            latencies_s=tuple(latencies[warmup:]),
            counter_us=-CUT_OFF_US,
        )

    def close(self) -> None:
        super().close()
        self._requests, self._reopen = SimpleQueue(), None


def executed_precision(compiled: Any) -> Precision:
    """The precision of most of the compiled graph's convolutions and matrix products, read back from the plugin."""
    heavy, every = Counter[str](), Counter[str]()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        kind, precision = info["layerType"].astype(str), info["runtimePrecision"].astype(str)
        if kind in ("Const", "Input", "Parameter", "Output", "Result"):
            continue
        name = _EXECUTED.get(precision, precision)  # i8 and u8 are one
        every[name] += 1
        if kind in ("Convolution", "FullyConnected", "MatMul", "GroupConvolution"):
            heavy[name] += 1
    counts = heavy or every
    if not counts:  # nothing computes: whatever was asked for holds
        return _EXECUTED.get(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(), Precision.F32)
    most = counts.most_common(1)[0][0]
    if not isinstance(most, Precision):
        raise CompileError(f"OpenVINO chose {most}, which modelport does not offer")
    return most


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InferenceError(f"{where}: OpenVINO failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith("Exception from")), "no message")
