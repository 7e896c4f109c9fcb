"""ONNX Runtime's profile, read: its trace file against the optimised graph that it ran.

The trace has one `..._kernel_time` event per operator and round, in whole microseconds, and a `model_run` event per round.
An operator's event ends after its record has been put together, so each is longer than the operator ran: by how much is
measured on a chain of operators that compute next to nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import InferenceError
from ..graph.source import SourceGraph, SourceNode
from ..results import OperatorFacts, OperatorTensor
from ..schema import JSON_ERRORS
from ..spec import Precision

CHAIN_INPUT, CHAIN_LENGTH = "x", 100
_SUFFIX = "_kernel_time"
_BLOCKED, _LAST = "com.microsoft.nchwc", "com.ms.internal.nhwc"  # domains of operators with channels in blocks, or last
_BLOCKED_NAME = re.compile(r"(?P<tensor>.+)_nchwc(?:_token_\d+)?")  # of an operator: after the tensor that it makes
_TOKEN = re.compile(r"_token_\d+$")  # what the optimiser appends to a node's name
_DTYPES = {"float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "int8": "i8", "uint8": "u8", "int16": "i16",
           "int32": "i32", "int64": "i64"}  # fmt: skip
_PRECISIONS = {"f32": Precision.F32, "f16": Precision.FP16, "i8": Precision.INT8, "u8": Precision.INT8}


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace file. `durations_us` and `gaps_us` are rounds x operators; `events` are those of the last round."""

    events: tuple[dict[str, Any], ...]
    durations_us: np.ndarray
    gaps_us: np.ndarray


def chain() -> bytes:
    """An ONNX file with a chain of sums of single numbers, three inputs each, as a convolution has."""
    names = [CHAIN_INPUT, *(f"y{number}" for number in range(CHAIN_LENGTH))]
    nodes = [helper.make_node("Sum", [a, "zero", "zero"], [b], name=b) for a, b in pairwise(names)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (names[0], names[-1])]
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return model.SerializeToString()


def read_trace(path: Path, warmup: int) -> Trace:
    """Read a trace file, leaving out the first `warmup` rounds.

    Raises:
        InferenceError: it is not the trace that is expected.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        runs = _timed(event for event in events if event["name"] == "model_run")
        kernels = _timed(event for event in events if str(event["name"]).endswith(_SUFFIX))
    except (*JSON_ERRORS, OSError, LookupError, TypeError, OverflowError) as error:
        raise InferenceError(f"ONNX Runtime's profile cannot be read: {type(error).__name__}: {error}") from error
    rounds = [_within(kernels, run) for run in runs[warmup:]]
    if not rounds or not rounds[0] or {_names(found) for found in rounds} != {_names(rounds[0])}:
        raise InferenceError("ONNX Runtime's profile does not have the same operators in every round")
    starts = np.array([[event["ts"] for event in found] for found in rounds])
    durations = np.array([[event["dur"] for event in found] for found in rounds])
    begun = np.array([[run["ts"]] for run in runs[warmup:]])
    before = np.concatenate([begun, (starts + durations)[:, :-1]], axis=1)
    return Trace(tuple(rounds[-1]), durations, np.maximum(0.0, starts - before))


def _timed(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events in the order of their start."""
    found = [event | {"ts": float(event["ts"]), "dur": float(event["dur"])} for event in events]
    return sorted(found, key=lambda event: event["ts"])


def _within(kernels: list[dict[str, Any]], run: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of one round; those inside a control-flow operator are part of its time already."""
    found: list[dict[str, Any]] = []
    for event in kernels:
        inside = run["ts"] <= event["ts"] <= run["ts"] + run["dur"]
        if inside and (not found or event["ts"] >= found[-1]["ts"] + found[-1]["dur"]):
            found.append(event)
    return found


def _names(events: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(event["name"] for event in events)


def read_operators(trace: Trace, optimised: Path, source: SourceGraph, input_layout: str) -> tuple[OperatorFacts, ...]:
    """The operators of a trace, in order.

    Args:
        trace: what ran.
        optimised: ONNX file of the graph that ran.
        source: the ONNX graph that it was made from.
        input_layout: of the model's input, such as NCHW.
    """
    graph = _OptimisedGraph(optimised, source, input_layout)
    nodes = [graph.node(event["args"], event["name"].removesuffix(_SUFFIX)) for event in trace.events]
    ran = {name: _name(node, place) for place, node in enumerate(nodes) if node for name in node.output}
    return tuple(
        graph.facts(event["args"], node, _name(node, place), ran)
        for place, (event, node) in enumerate(zip(trace.events, nodes, strict=True))
    )


def _name(node: onnx.NodeProto | None, place: int) -> str:
    if node is None:
        return f"operator {place}"
    return node.name or next(iter(node.output), f"operator {place}")


class _OptimisedGraph:
    def __init__(self, path: Path, source: SourceGraph, input_layout: str) -> None:
        graph = onnx.load(path).graph
        self._source = source
        self._nodes = list(graph.node)
        self._named = {node.name: node for node in graph.node if node.name}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._origin: dict[str, str] = {name: name for name in source.tensors}
        self._layouts = {graph.input[0].name: input_layout}
        for node in graph.node:
            self._trace_back(node)
            self._layouts |= dict.fromkeys(node.output, self._layout(node))
        present = {self._origin.get(name) for node in graph.node for name in (*node.input, *node.output)}
        self._known = frozenset(filter(None, present))

    def _trace_back(self, node: onnx.NodeProto) -> None:
        """Which tensor of the source the node's output is, where the optimiser gave it another name."""
        named = _BLOCKED_NAME.fullmatch(node.name)
        if named and named["tensor"] in self._source.tensors:
            self._origin.setdefault(node.output[0], named["tensor"])
        elif node.op_type in ("ReorderInput", "ReorderOutput") and node.input[0] in self._origin:
            self._origin.setdefault(node.output[0], self._origin[node.input[0]])

    def _layout(self, node: onnx.NodeProto) -> str:
        """Of a node's results that have four axes."""
        told = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "ReorderOutput" or told.get("channels_last"):
            return "NHWC" if told.get("channels_last") else "NCHW"
        if node.domain == _BLOCKED:
            return "NCHWc"
        if node.domain == _LAST:
            return "NHWC"
        if node.op_type == "Transpose" and len(told.get("perm", ())) == 4:
            return "NHWC" if list(told["perm"]) == [0, 2, 3, 1] else "NCHW"
        return next((self._layouts[name] for name in node.input if name in self._layouts), "NCHW")

    def node(self, facts: dict[str, Any], name: str) -> onnx.NodeProto | None:
        """The node of an event: by its number, or by its name where the runtime has changed the numbers."""
        number = int(facts.get("node_index", -1))
        node = self._nodes[number] if 0 <= number < len(self._nodes) else None
        if node is not None and (node.op_type, node.name) == (facts["op_name"], name):
            return node
        return self._named.get(name)

    def facts(
        self, event: dict[str, Any], node: onnx.NodeProto | None, name: str, ran: dict[str, str]
    ) -> OperatorFacts:
        read = list(filter(None, node.input)) if node else []
        made = list(filter(None, node.output)) if node else []
        inputs = tuple(self._inputs(event.get("input_type_shape", []), read))
        told = [_told(each) for each in event.get("output_type_shape", [])]
        outputs = tuple(self._tensor(*each, name) for each, name in zip(told, [*made, *[""] * len(told)], strict=False))
        found = self._sources(read, made) or self._source.find([_TOKEN.sub("", name)])
        return OperatorFacts(
            name=name,
            type=event["op_name"],
            kernel=f"{node.domain}.{node.op_type}" if node and node.domain else event["op_name"],
            precision=_PRECISIONS.get(inputs[0].dtype if inputs else ""),
            inputs=inputs,
            outputs=outputs,
            reads=tuple(dict.fromkeys(ran[tensor] for tensor in read if tensor in ran)),
            source=tuple(item.name for item in found),
            source_types=tuple(item.type for item in found),
        )

    def _inputs(self, events: list[dict[str, list[int]]], names: list[str]) -> Iterator[OperatorTensor]:
        """A trace leaves out weights that the runtime has packed anew; those are as in the file."""
        told = [_told(each) for each in events]
        for name in names or [""] * len(told):
            if name in self._weights:
                weight = self._weights[name]
                mine = TensorProto.DataType.Name(weight.data_type).lower(), tuple(weight.dims)
                mine = _DTYPES.get(mine[0], mine[0]), mine[1]
                if told and told[0] == mine:
                    told.pop(0)
                layout = "NCHW" if len(mine[1]) == 4 else "ND"
                yield OperatorTensor(dtype=mine[0], shape=mine[1], layout=layout, constant=True)
            elif told:
                yield self._tensor(*told.pop(0), name)

    def _tensor(self, dtype: str, shape: tuple[int, ...], name: str) -> OperatorTensor:
        layout = self._layouts.get(name, "NCHW") if len(shape) == 4 else "ND"
        if layout == "NHWC":
            shape = tuple(shape[axis] for axis in (0, 3, 1, 2))
        return OperatorTensor(dtype=dtype, shape=shape, layout=layout)

    def _sources(self, read: list[str], made: list[str]) -> tuple[SourceNode, ...]:
        data = [name for name in read if name not in self._weights]
        if not all(name in self._origin for name in (*data, *made)):
            return ()
        results = {self._origin[name] for name in made} - {self._origin[name] for name in data}
        return self._source.between(results, self._known)


def _told(event: dict[str, list[int]]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a tensor in a trace."""
    ((dtype, shape),) = event.items()
    return _DTYPES.get(dtype, dtype), tuple(shape)
