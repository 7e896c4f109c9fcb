"""What was measured: frozen records with raw figures inside and derived ones as properties, as versioned JSON."""

from .accuracy import Accuracy, Gate, GateCheck, Interval, Paired, Parity, ReferenceAccuracy
from .base import Environment, Result, require_comparable
from .performance import (
    BadImage,
    BenchResult,
    EndToEnd,
    Hygiene,
    InferResult,
    Interface,
    LatencySummary,
    StageStats,
    Target,
)
from .run import Command, RunResult, TargetResult

__all__ = [
    "Accuracy",
    "BadImage",
    "BenchResult",
    "Command",
    "EndToEnd",
    "Environment",
    "Gate",
    "GateCheck",
    "Hygiene",
    "InferResult",
    "Interface",
    "Interval",
    "LatencySummary",
    "Paired",
    "Parity",
    "ReferenceAccuracy",
    "Result",
    "RunResult",
    "StageStats",
    "Target",
    "TargetResult",
    "require_comparable",
]
