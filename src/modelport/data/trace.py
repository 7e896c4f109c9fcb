"""An operator profile as a trace that Perfetto and Chrome open: the Trace Event Format's JSON object form.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Complete events (`X`) with microseconds,
metadata events (`M`) for the names of the process and its tracks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files
from ..results.profile import Operator, ProfileResult

_PROCESS = 1
_BATCH, _OPERATORS, _MOVEMENT = 1, 2, 3
_TRACKS = {_BATCH: "batch", _OPERATORS: "operators", _MOVEMENT: "of these, data movement"}


def write_trace(result: ProfileResult, path: Path) -> None:
    """Write one batch, put together from the operators' medians, as `trace.json`."""
    document = {
        "traceEvents": list(_events(result)),
        "displayTimeUnit": "ns",
        "otherData": {
            "engine": f"{result.engine} {result.engine_version}",
            "model": result.where,
            "rounds": str(result.rounds),
        },
    }
    files.write_text(path, json.dumps(document, ensure_ascii=False) + "\n")


def _events(result: ProfileResult) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", 0, {"name": f"{result.name}, batch {result.batch_size}"})
    for track, name in _TRACKS.items():
        yield _metadata("thread_name", track, {"name": name})
        yield _metadata("thread_sort_index", track, {"sort_index": track})
    last = result.operators[-1]
    told = {"latency_us": result.latency_us, "operators_us": result.operators_us, "overhead_us": result.overhead_us}
    yield _slice("batch", "batch", _BATCH, (0.0, last.start_us + last.duration_us), told)
    islands = {name: island for island in result.islands for name in island.operators}
    for operator in result.operators:
        span = operator.start_us, operator.duration_us
        yield _slice(operator.name, operator.kind, _OPERATORS, span, _told(operator))
        if island := islands.get(operator.name):
            words = {"pattern": island.pattern, "rewrite": island.rewrite, "reason": island.reason}
            yield _slice(island.pattern, operator.type, _MOVEMENT, span, {"operator": operator.name} | words)


def _told(operator: Operator) -> dict[str, Any]:
    told = {
        "type": operator.type,
        "kernel": operator.kernel,
        "precision": operator.precision,
        "inputs": [f"{tensor.text} {tensor.dtype}" for tensor in operator.inputs],
        "outputs": [f"{tensor.text} {tensor.dtype}" for tensor in operator.outputs],
        "source": list(operator.source),
        "p10_us": operator.p10_us,
        "p90_us": operator.p90_us,
        "GFLOP/s": operator.gflops,
        "GB/s": operator.gigabytes_s,
        "share of the limit": operator.limit_share,
    }
    return {key: value for key, value in told.items() if value is not None}


def _metadata(name: str, track: int, told: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": track, "args": told}


def _slice(name: str, category: str, track: int, span: tuple[float, float], told: dict[str, Any]) -> dict[str, Any]:
    start, duration = (round(value, 3) for value in span)
    place = {"pid": _PROCESS, "tid": track, "ts": start, "dur": duration}
    return {"ph": "X", "name": name, "cat": category, **place, "args": told}
