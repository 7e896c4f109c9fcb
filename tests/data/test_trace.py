"""The trace against a schema of the Trace Event Format, as far as Perfetto reads it; and against the profile."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from modelport.data.trace import write_trace

Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Identifier = Annotated[int, Field(ge=0, strict=True)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ProcessName(Strict):
    ph: Literal["M"]
    name: Literal["process_name", "thread_name"]
    pid: Identifier
    tid: Identifier
    args: dict[Literal["name"], str]


class SortIndex(Strict):
    ph: Literal["M"]
    name: Literal["process_sort_index", "thread_sort_index"]
    pid: Identifier
    tid: Identifier
    args: dict[Literal["sort_index"], int]


class Complete(Strict):
    ph: Literal["X"]
    name: Annotated[str, Field(min_length=1)]
    cat: str
    pid: Identifier
    tid: Identifier
    ts: Time
    dur: Time
    args: dict[str, Any]


class Document(Strict):
    traceEvents: list[Complete | ProcessName | SortIndex]
    displayTimeUnit: Literal["ms", "ns"]
    otherData: dict[str, str]


@pytest.fixture(params=["onnxruntime", "openvino"])
def written(request, csp_profile, tmp_path):
    result = csp_profile(request.param)
    write_trace(result, tmp_path / "trace.json")
    return result, json.loads((tmp_path / "trace.json").read_text())


def test_the_trace_fits_the_format(written):
    TypeAdapter(Document).validate_python(written[1])


def test_the_schema_refuses_what_perfetto_would(written):
    _, document = written
    event = next(event for event in document["traceEvents"] if event["ph"] == "X")
    for change in ({"dur": -1.0}, {"ts": float("nan")}, {"ph": "B"}, {"tid": "one"}, {"name": ""}):
        broken = document | {"traceEvents": [event | change]}
        with pytest.raises(ValueError, match="traceEvents"):
            TypeAdapter(Document).validate_python(broken)


def test_every_operator_is_a_slice_and_none_overlap(written):
    result, document = written
    tracks = {e["args"]["name"]: e["tid"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    slices = [e for e in document["traceEvents"] if e["ph"] == "X" and e["tid"] == tracks["operators"]]

    assert [e["name"] for e in slices] == [operator.name for operator in result.operators]
    assert sum(e["dur"] for e in slices) == pytest.approx(sum(o.duration_us for o in result.operators), abs=0.1)
    for before, after in pairwise(slices):
        assert after["ts"] >= before["ts"] + before["dur"] - 0.01
    (batch,) = [e for e in document["traceEvents"] if e["ph"] == "X" and e["tid"] == tracks["batch"]]
    assert batch["dur"] >= slices[-1]["ts"] + slices[-1]["dur"] - 0.01


def test_movement_has_a_track_of_its_own_with_its_rewrite(written):
    result, document = written
    tracks = {e["args"]["name"]: e["tid"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    slices = [e for e in document["traceEvents"] if e["ph"] == "X" and e["tid"] == tracks["of these, data movement"]]

    assert len(slices) == sum(len(island.operators) for island in result.islands)
    assert {e["args"]["rewrite"] for e in slices} >= {"split_convolutions", "sum_concat_convolution"}
