"""The public names, for type checkers; `tests/distribution/test_public_types.py` keeps it."""

from .accuracy import evaluate as evaluate
from .classification import classify as classify
from .comparison.compare import DiffOptions as DiffOptions
from .comparison.compare import diff as diff
from .comparison.fix import FixOptions as FixOptions
from .engines import open_model as open
from .engines.base import CompileOptions as CompileOptions
from .engines.compiler import compile_model as compile
from .engines.session import SessionOptions as SessionOptions
from .errors import CheckpointError as CheckpointError
from .errors import CompileError as CompileError
from .errors import DataError as DataError
from .errors import EngineUnavailableError as EngineUnavailableError
from .errors import ExportError as ExportError
from .errors import FormatError as FormatError
from .errors import InferenceError as InferenceError
from .errors import ModelportError as ModelportError
from .errors import OutputError as OutputError
from .exporter import ExportOptions as ExportOptions
from .exporter import export as export
from .history.compare import CompareOptions as CompareOptions
from .history.compare import compare as compare
from .inference import infer as infer
from .job import run as run
from .measure.bench import bench as bench
from .measure.fp16 import ForecastOptions as ForecastOptions
from .measure.fp16 import Fp16Forecast as Fp16Forecast
from .measure.fp16 import forecast_fp16 as forecast_fp16
from .measure.optimize import OptimizeOptions as OptimizeOptions
from .measure.optimize import optimize as optimize
from .measure.profile import ProfileOptions as ProfileOptions
from .measure.profile import profile as profile
from .measure.sweep import SweepSpace as SweepSpace
from .measure.sweep import sweep as sweep
from .measure.tune import TuneOptions as TuneOptions
from .measure.tune import tune as tune
from .mlperf.run import loadgen as loadgen
from .mlperf.settings import LoadGenOptions as LoadGenOptions
from .offline import OfflineModel as OfflineModel
from .packing import PackOptions as PackOptions
from .packing import pack as pack
from .quantize import QuantizeOptions as QuantizeOptions
from .quantize import quantize as quantize_onnx
from .recipe import Recipe as Recipe
from .results import Accuracy as Accuracy
from .results import BenchResult as BenchResult
from .results import Classification as Classification
from .results import Comparison as Comparison
from .results import DiffResult as DiffResult
from .results import InferResult as InferResult
from .results import LoadGenResult as LoadGenResult
from .results import OptimizationResult as OptimizationResult
from .results import ProfileResult as ProfileResult
from .results import RunResult as RunResult
from .results import SweepResult as SweepResult
from .results import TuneResult as TuneResult
from .spec import ModelSpec as ModelSpec
from .spec import Precision as Precision
from .spec import Preprocess as Preprocess

__version__: str
__all__ = [
    "Accuracy",
    "BenchResult",
    "CheckpointError",
    "Classification",
    "CompareOptions",
    "Comparison",
    "CompileError",
    "CompileOptions",
    "DataError",
    "DiffOptions",
    "DiffResult",
    "EngineUnavailableError",
    "ExportError",
    "ExportOptions",
    "FixOptions",
    "ForecastOptions",
    "FormatError",
    "Fp16Forecast",
    "InferResult",
    "InferenceError",
    "LoadGenOptions",
    "LoadGenResult",
    "ModelSpec",
    "ModelportError",
    "OfflineModel",
    "OptimizationResult",
    "OptimizeOptions",
    "OutputError",
    "PackOptions",
    "Precision",
    "Preprocess",
    "ProfileOptions",
    "ProfileResult",
    "QuantizeOptions",
    "Recipe",
    "RunResult",
    "SessionOptions",
    "SweepResult",
    "SweepSpace",
    "TuneOptions",
    "TuneResult",
    "bench",
    "classify",
    "compare",
    "compile",
    "diff",
    "evaluate",
    "export",
    "forecast_fp16",
    "infer",
    "loadgen",
    "open",
    "optimize",
    "pack",
    "profile",
    "quantize_onnx",
    "run",
    "sweep",
    "tune",
]
