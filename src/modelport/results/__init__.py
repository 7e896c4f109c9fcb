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
from .comparison import AccuracyChange, Comparison, PerformanceGate, SpeedChange
from .diff import DiffResult, FixResult, LayerError, TensorError
from .history import HistoryEntry, HistoryRow
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
    "Accuracy",
    "AccuracyChange",
    "BadImage",
    "BenchResult",
    "ClassAccuracy",
    "ClusterLoad",
    "Command",
    "Comparison",
    "Configuration",
    "Confusion",
    "Decision",
    "DeviceStats",
    "DiffResult",
    "EndToEnd",
    "Environment",
    "FastCheck",
    "FixResult",
    "Gate",
    "GateCheck",
    "Goal",
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
    "MachinePeaks",
    "Measured",
    "Operator",
    "OperatorFacts",
    "OperatorTensor",
    "OptimizationResult",
    "Outcome",
    "Paired",
    "PairedTiming",
    "Parity",
    "PassDecision",
    "PerformanceGate",
    "ProfileResult",
    "ReferenceAccuracy",
    "Result",
    "RunResult",
    "ScalePlan",
    "SpeedChange",
    "StageStats",
    "SweepResult",
    "SweepSettings",
    "SweepSubject",
    "Target",
    "TargetResult",
    "TensorError",
    "Trial",
    "TuneResult",
    "VariantAccuracy",
    "require_comparable",
]
