"""What was measured: frozen records with raw figures inside and derived ones as properties, as versioned JSON."""

from .accuracy import (
    Accuracy,
    ClassAccuracy,
    Confusion,
    Decision,
    Gate,
    GateCheck,
    Interval,
    Paired,
    Parity,
    ReferenceAccuracy,
)
from .base import Environment, Result, require_comparable
from .classification import Classification, ClassifiedImage, Guess
from .comparison import AccuracyChange, Comparison, PerformanceGate, SpeedChange
from .diagnosis import (
    Accelerator,
    Diagnosis,
    Disk,
    EngineCheck,
    Memory,
    OptionalPackage,
    Problem,
    Processor,
    Telemetry,
)
from .diff import DiffResult, FixResult, LayerError, TensorError
from .history import HistoryEntry, HistoryRow
from .loadgen import LoadGenFigure, LoadGenResult, Scenario
from .operators import OperatorFacts, OperatorTensor
from .optimization import OptimizationResult, PairedTiming, PassDecision
from .peaks import MachinePeaks
from .performance import (
    BadImage,
    BenchResult,
    DeviceStats,
    EndToEnd,
    FastCheck,
    Hygiene,
    InferResult,
    Interface,
    LatencySummary,
    StageStats,
    Target,
)
from .profile import Island, Operator, ProfileResult
from .run import Command, RunResult, TargetResult
from .scaling import ClusterLoad, Limit, ScalePlan
from .search import Configuration, Measured, Outcome, SweepResult, SweepSettings, SweepSubject, Trial
from .tuning import Goal, TuneResult, VariantAccuracy

__all__ = [
    "Accelerator",
    "Accuracy",
    "AccuracyChange",
    "BadImage",
    "BenchResult",
    "ClassAccuracy",
    "Classification",
    "ClassifiedImage",
    "ClusterLoad",
    "Command",
    "Comparison",
    "Configuration",
    "Confusion",
    "Decision",
    "DeviceStats",
    "Diagnosis",
    "DiffResult",
    "Disk",
    "EndToEnd",
    "EngineCheck",
    "Environment",
    "FastCheck",
    "FixResult",
    "Gate",
    "GateCheck",
    "Goal",
    "Guess",
    "HistoryEntry",
    "HistoryRow",
    "Hygiene",
    "InferResult",
    "Interface",
    "Interval",
    "Island",
    "LatencySummary",
    "LayerError",
    "Limit",
    "LoadGenFigure",
    "LoadGenResult",
    "MachinePeaks",
    "Measured",
    "Memory",
    "Operator",
    "OperatorFacts",
    "OperatorTensor",
    "OptimizationResult",
    "OptionalPackage",
    "Outcome",
    "Paired",
    "PairedTiming",
    "Parity",
    "PassDecision",
    "PerformanceGate",
    "Problem",
    "Processor",
    "ProfileResult",
    "ReferenceAccuracy",
    "Result",
    "RunResult",
    "ScalePlan",
    "Scenario",
    "SpeedChange",
    "StageStats",
    "SweepResult",
    "SweepSettings",
    "SweepSubject",
    "Target",
    "TargetResult",
    "Telemetry",
    "TensorError",
    "Trial",
    "TuneResult",
    "VariantAccuracy",
    "require_comparable",
]
