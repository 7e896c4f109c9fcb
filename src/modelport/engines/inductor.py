"""PyTorch's AOTInductor, on the CPU and on NVIDIA GPUs. The offline model is a `.pt2`: kernels compiled ahead of time.

It compiles PyTorch's own network (an exported program), not the ONNX file, which says what the network needs and which
checkpoint it is. Building and running packages is `modelport.inductor`, which knows nothing of offline models.

On a GPU never run where it was written, which has none: see docs/gpu.md.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..errors import CompileError, InferenceError
from ..graph import ClassifierGraph
from ..graph.source import write_source
from ..host import usable_cores
from ..inductor.facts import PackageFacts
from ..inductor.failures import translate
from ..inductor.toolkit import CACHE_VARIABLE
from ..offline import OfflineModel
from ..spec import ColorOrder, ModelSpec, Precision, Preprocess
from .base import Compiled, CompileOptions, Engine
from .inductor_operators import read_operators
from .session import OperatorTimes, Session, SessionOptions

_PACKAGE, _MEASURED = "model.pt2", "autotune.json"
_DTYPES = {Precision.F32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}
_EXECUTED = {dtype: precision for precision, dtype in _DTYPES.items()}


class InductorEngine(Engine):
    """One static package for each batch size."""

    name = "inductor"
    title = "PyTorch AOTInductor"
    extra = "inductor"
    precisions = (Precision.F32, Precision.BF16, Precision.FP16)
    counters = True
    device_kinds = ("cpu", "cuda")
    from_program = True
    batches_in_flight = 2

    def version(self) -> str:
        """From the package's metadata: importing PyTorch takes seconds."""
        try:
            return version("torch")
        except PackageNotFoundError as error:
            raise self.missing("torch", ModuleNotFoundError(str(error))) from error

    def compiler_environment(self) -> dict[str, str]:
        return {} if os.environ.get(CACHE_VARIABLE) else {CACHE_VARIABLE: _shared_cache().name}

    def _torch(self) -> Any:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own log, read when PyTorch is loaded
        try:
            import torch
        except ImportError as error:
            raise self.missing("torch", error) from error
        return torch

    def on_accelerator(self, model: OfflineModel) -> bool:
        return model.manifest.gpu is not None

    def compile_into(
        self, directory: Path, graph: ClassifierGraph, spec: ModelSpec, options: CompileOptions
    ) -> Compiled:
        from ..inductor.autotune import fastest_package
        from ..inductor.package import PackageOptions, build_package

        torch = self._torch()
        assert options.program is not None
        what = f"{self.title} cannot compile {graph.path}"
        try:
            program = torch.export.load(options.program)
        except Exception as error:  # its reader raises what it likes
            raise translate(error, what, CompileError) from error
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        shape = (options.batch_size, *spec.preprocess.input_size)
        wanted = PackageOptions(
            device=device,
            dtype=_DTYPES[options.precision],
            pixels=_pixels(spec.preprocess) if options.input_dtype == "uint8" else None,
            tf32=options.tf32,
            profile=device == "cpu",  # so that a profile needs no second package; a GPU's kernels are seen without
        )
        files = [write_source(graph.path, directory)]
        if options.autotune:
            measured = fastest_package(program, shape, directory / _PACKAGE, wanted, str(graph.path))
            (directory / _MEASURED).write_text(measured.text(), encoding="utf-8")
            files.append(_MEASURED)
            facts = measured.facts
        else:
            facts = build_package(program, shape, directory / _PACKAGE, wanted, str(graph.path))
        return Compiled(
            files=(_PACKAGE, *files),
            executed=_EXECUTED[facts.dtype],
            uint8_input=facts.pixels,
            gpu=asdict(facts.gpu) if facts.gpu else None,
            settings=facts.settings | {"tf32": facts.tf32},
        )

    def open(self, model: OfflineModel, options: SessionOptions) -> Session:
        if options.isolation is None:
            self._torch()  # in this thread: its profiler works in the one that loaded it
        return super().open(model, options)

    def _open(self, model: OfflineModel, options: SessionOptions) -> Session:
        from ..inductor.runner import RunnerOptions, open_runner

        path = model.file(_PACKAGE)
        _require_agreement(model, path)
        streams, cores = options.streams or 1, options.threads or usable_cores()
        runner = open_runner(
            path,
            RunnerOptions(
                index=options.devices[0],
                buffers=streams,
                threads=max(1, cores // streams),
            ),
        )
        return InductorSession(model, runner, streams)


@cache
def _shared_cache() -> TemporaryDirectory[str]:
    """Until this process ends its compilations share what they find out of the machine and its compiler: two thirds of the time
    that a small network takes. PyTorch's default is a place in /tmp that anyone can guess, and it loads code from there."""
    return TemporaryDirectory(prefix="modelport-inductor-", ignore_cleanup_errors=True)


class InductorSession(Session):
    """A runner with a buffer for each calling thread."""

    def __init__(self, model: OfflineModel, runner: Any, slots: int) -> None:
        super().__init__(str(model.path), model.tensors, slots)
        self._runner = runner
        self.on_cores = runner.facts.device == "cpu"

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        return self._runner.run(batch)

    def _profile(self, batch: np.ndarray, warmup: int, rounds: int) -> OperatorTimes:
        from ..inductor.kernels import time_kernels
        from ..inductor.wrapper import read_calls

        times = time_kernels(self._runner, batch, warmup, rounds)
        ends = times.starts_us + times.durations_us
        before = np.concatenate([np.zeros((rounds, 1)), ends[:, :-1]], axis=1)
        return OperatorTimes(
            operators=read_operators(
                times.names, read_calls(self._runner.path, self.input.dtype), _EXECUTED[self._runner.facts.dtype]
            ),
            durations_us=times.durations_us,
            gaps_us=np.maximum(0.0, times.starts_us - before),
            latencies_s=times.latencies_s,
            counter_us=0.0,
        )

    def close(self) -> None:
        super().close()
        self._runner.close()


def _pixels(preprocess: Preprocess) -> Any:
    from ..inductor.package import Pixels

    reverse = preprocess.color_order is ColorOrder.BGR and len(preprocess.mean) == 3
    return Pixels(mean=preprocess.mean, std=preprocess.std, reverse=reverse)


def _require_agreement(model: OfflineModel, path: Path) -> None:
    """Raise InferenceError where the package says something else of itself than the manifest does."""
    try:
        facts = PackageFacts.read(path)
    except ValueError as error:
        raise InferenceError(f"{model.path}: {InductorEngine.title} cannot open {path.name}: it {error}") from error
    manifest = model.manifest
    gpu = asdict(facts.gpu) if facts.gpu else None
    pairs = {
        "precision": (_EXECUTED[facts.dtype], manifest.precision.executed),
        "input": (facts.shape, manifest.input.shape),
        "GPU": (gpu, manifest.gpu and manifest.gpu.jsonable()),
        "TF32": (facts.tf32, manifest.settings.get("tf32", False)),
    }
    for what, (found, stated) in pairs.items():
        if found != stated:
            raise InferenceError(
                f"{model.path}: {path.name} was built for another {what} ({found}) than the manifest says ({stated}); compile it again"
            )
