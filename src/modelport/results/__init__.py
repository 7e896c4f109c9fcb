"""What was measured: frozen records with raw figures inside and derived ones as properties, as versioned JSON."""

from .accuracy import Accuracy, Gate, GateCheck, Interval, Paired, Parity, ReferenceAccuracy
from .base import Environment, Result, require_comparable
from .peaks import MachinePeaks
from .performance import (
    BadImage,
    BenchResult,
    EndToEnd,
    FastCheck,
    Hygiene,
    InferResult,
    Interface,
    LatencySummary,
    StageStats,
    Target,
)
from .run import Command, RunResult, TargetResult
from .search import Configuration, Measured, Outcome, SweepResult, SweepSettings, SweepSubject, Trial
from .tuning import Goal, TuneResult, VariantAccuracy

__all__ = [
    "Accuracy",
    "BadImage",
    "BenchResult",
    "Command",
    "Configuration",
    "EndToEnd",
    "Environment",
    "FastCheck",
    "Gate",
    "GateCheck",
    "Goal",
    "Hygiene",
    "InferResult",
    "Interface",
    "Interval",
    "LatencySummary",
    "MachinePeaks",
    "Measured",
    "Outcome",
    "Paired",
    "Parity",
    "ReferenceAccuracy",
    "Result",
    "RunResult",
    "StageStats",
    "SweepResult",
    "SweepSettings",
    "SweepSubject",
    "Target",
    "TargetResult",
    "Trial",
    "TuneResult",
    "VariantAccuracy",
    "require_comparable",
]
