"""Carry a trained image classifier from its checkpoint to the hardware it will run on, and prove nothing was lost.

Importing this package imports no engine, no torch and nothing heavy: each public name is resolved on first use.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOME = {  # public name: module, and the name there where it differs
    "Accuracy": "results",
    "BenchResult": "results",
    "CheckpointError": "errors",
    "CompareOptions": "history.compare",
    "Comparison": "results",
    "Classification": "results",
    "CompileError": "errors",
    "CompileOptions": "engines.base",
    "DataError": "errors",
    "DiffOptions": "comparison.compare",
    "DiffResult": "results",
    "EngineUnavailableError": "errors",
    "ExportError": "errors",
    "ExportOptions": "exporter",
    "FixOptions": "comparison.fix",
    "ForecastOptions": "measure.fp16",
    "FormatError": "errors",
    "Fp16Forecast": "measure.fp16",
    "InferResult": "results",
    "InferenceError": "errors",
    "LoadGenOptions": "mlperf.settings",
    "LoadGenResult": "results",
    "ModelSpec": "spec",
    "ModelportError": "errors",
    "OfflineModel": "offline",
    "OptimizationResult": "results",
    "OptimizeOptions": "measure.optimize",
    "OutputError": "errors",
    "PackOptions": "packing",
    "Precision": "spec",
    "Preprocess": "spec",
    "ProfileOptions": "measure.profile",
    "ProfileResult": "results",
    "QuantizeOptions": "quantize",
    "Recipe": "recipe",
    "RunResult": "results",
    "SessionOptions": "engines.session",
    "SweepResult": "results",
    "SweepSpace": "measure.sweep",
    "TuneOptions": "measure.tune",
    "TuneResult": "results",
    "bench": "measure.bench",
    "compare": "history.compare",
    "classify": "classification",
    "compile": "engines.compiler:compile_model",
    "diff": "comparison.compare",
    "evaluate": "accuracy",
    "export": "exporter",
    "forecast_fp16": "measure.fp16",
    "infer": "inference",
    "loadgen": "mlperf.run",
    "open": "engines:open_model",
    "optimize": "measure.optimize",
    "pack": "packing",
    "profile": "measure.profile",
    "quantize_onnx": "quantize:quantize",  # not `quantize`: the module would hide it once imported
    "run": "job",
    "sweep": "measure.sweep",
    "tune": "measure.tune",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
