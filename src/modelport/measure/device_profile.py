"""The operator profile of a device, from the CSV files of its maker's profiler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.op_csv import read_op_statistic, read_op_summary
from ..graph.source import SourceGraph
from ..results import OperatorFacts
from ..results.profile import Operator, ProfileResult
from ..spec import Precision
from .islands import find_islands
from .operators import describe_operators

_DISAGREEMENT = 0.01
log = logging.getLogger("modelport")


def analyse_op_csv(path: Path, onnx: Path | None = None) -> ProfileResult:
    """Analyse what Ascend's `msprof` wrote as if it had been measured here.

    Args:
        path: an `op_summary` CSV file, or a directory with those of one device; several are several rounds.
        onnx: the ONNX file that the model came from, for the names of its nodes.

    Raises:
        FormatError: a file is malformed; the message has its name and line.
    """
    summary = read_op_summary(path)
    facts = summary.operators if onnx is None else _with_source(summary.operators, SourceGraph.read(onnx))
    rounds = max(len(samples) for samples in summary.durations_us)
    durations = np.array([_padded(samples, rounds) for samples in summary.durations_us]).T
    operators = describe_operators(facts, durations, summary.gaps_us, None)
    _check_statistic(path, operators)
    precision = _precision(operators)
    return ProfileResult(
        engine="ascend",
        engine_version="unknown",
        precision=precision,
        executed_precision=precision,
        batch_size=_batch_size(operators),
        devices=(summary.device,),
        origin="msprof",
        where=str(path),
        model=None,
        input="unknown",
        rounds=rounds,
        warmup=0,
        blocks=1,
        latencies_s=summary.spans_s,
        counting_s=(),
        counter_us=0.0,
        operators=operators,
        islands=find_islands(operators, "compile --aipp" if _takes_floats(operators) else None),
    )


def _padded(samples: Sequence[float], rounds: int) -> list[float]:
    """An operator that is missing in some rounds counts with its median there."""
    return [*samples, *[float(np.median(samples))] * (rounds - len(samples))]


def _with_source(facts: Sequence[OperatorFacts], graph: SourceGraph) -> tuple[OperatorFacts, ...]:
    found = [(each, graph.named_in(each.name)) for each in facts]
    return tuple(
        each.model_copy(
            update={
                "source": tuple(node.name for node in nodes),
                "source_types": tuple(node.type for node in nodes),
            }
        )
        for each, nodes in found
    )


def _precision(operators: Sequence[Operator]) -> Precision:
    """Of most of the time in convolutions and matrix products; fp16, the device's own, where none says."""
    times: dict[Precision, float] = {}
    for operator in operators:
        if operator.kind in ("convolution", "matmul") and operator.precision:
            times[operator.precision] = times.get(operator.precision, 0.0) + operator.duration_us
    return max(times, key=lambda each: times[each], default=Precision.FP16)


def _batch_size(operators: Sequence[Operator]) -> int:
    """First axis of the first tensor of four axes or more."""
    shapes = (tensor.shape for operator in operators for tensor in operator.inputs if len(tensor.shape) >= 4)
    return next((shape[0] for shape in shapes if shape[0] > 0), 1)


def _takes_floats(operators: Sequence[Operator]) -> bool:
    first = next((operator for operator in operators if operator.inputs), None)
    return first is None or first.inputs[0].dtype not in ("u8", "i8")


def _check_statistic(path: Path, operators: Sequence[Operator]) -> None:
    """Say where the operators do not add up to what `op_statistic` beside them states."""
    if (stated := read_op_statistic(path)) is None:
        return
    totals: dict[str, float] = {}
    for operator in operators:
        totals[operator.type] = totals.get(operator.type, 0.0) + sum(operator.durations_us)
    for name, total in stated.items():
        if abs(totals.get(name, 0.0) - total) > _DISAGREEMENT * max(total, 1.0):
            log.warning(
                "%s: op_statistic states %.1f us of %s, the operators in op_summary add up to %.1f us; are both of the same run?",
                path,
                total,
                name,
                totals.get(name, 0.0),
            )
