"""A graph that computes as an fp16 device would: every weight and every operator's result rounded to fp16.

Each operator still computes in f32 and its result is rounded once, by a pair of Casts (to fp16 and back), as hardware with
fp16 operands and results and a wide accumulator does. A converter to fp16 types is not used: what its result computes
depends on which fp16 kernels the runtime happens to have on this processor, and overflow must be seen, not clamped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .. import files
from ..errors import FormatError
from .classifier import ClassifierGraph

LARGEST = float(np.finfo(np.float16).max)  # 65504
_PREFIX = "modelport.fp16/"
# They pass on or choose among their inputs' values, which are rounded already.
_EXACT = frozenset(
    (
        *("Abs", "Max", "MaxPool", "GlobalMaxPool", "Min", "Neg", "ReduceMax", "ReduceMin", "Relu", "Where"),
        *("Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    )
)
# Inputs from the second on are settings, not data: rounding a Resize's scales would change the output's shape.
_SETTINGS = frozenset({"Clip", "Resize", "Upsample"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Overflow:
    """A weight with values that fp16 cannot hold: its name and its largest magnitude."""

    name: str
    largest: float

    def __str__(self) -> str:
        return f"{self.name} (largest {self.largest:.4g})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp16Emulation:
    """What was rounded.

    Attributes:
        path: the graph that was written.
        weights: constant tensors whose values were rounded.
        operators: operators whose results are rounded when the graph runs.
        overflows: weights that hold infinities now.
    """

    path: Path
    weights: int
    operators: int
    overflows: tuple[Overflow, ...]


def emulate_fp16(graph: ClassifierGraph, output: Path) -> Fp16Emulation:
    """Write a classifier's fp16 emulation as one ONNX file. Its input and output stay float32.

    Rounding is IEEE 754's (to nearest, ties to even): beyond ±65504 lies infinity. An Ascend 310 saturates at ±65504
    instead (CANN's `ACL_RT_OVERFLOW_MODE_SATURATION`), so that an overflow there is as wrong but harder to see.

    Raises:
        FormatError: an operator has a subgraph, or a result whose type ONNX cannot infer, so it could not be rounded.
    """
    model = onnx.load(graph.path)
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    types = _types(graph.path, model)
    settings = _settings(model.graph)
    weights, overflows = _round_weights(model.graph, settings)
    operators = _round_results(model.graph, types, settings)
    _round_input(model.graph, graph.input_name)
    files.write_bytes(output, model.SerializeToString())
    return Fp16Emulation(path=output, weights=weights, operators=operators, overflows=overflows)


def _types(path: Path, model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that an operator makes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
    for node in graph.node:
        kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        where = f"{path}: fp16 cannot be emulated: operator {node.name or node.output[0]!r} ({kind})"
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise FormatError(f"{where} has a subgraph; export the model without control flow")
        if unknown := [name for name in node.output if name and not types.get(name)]:
            raise FormatError(
                f"{where} makes {unknown[0]!r}, whose type ONNX cannot infer; use the plain ONNX file, with standard operators"
            )
    return types


def _settings(graph: onnx.GraphProto) -> set[str]:
    """Tensors that are read as settings only."""
    uses: dict[str, list[bool]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            uses.setdefault(name, []).append(node.op_type in _SETTINGS and index > 0)
    return {name for name, found in uses.items() if all(found)}


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if _is_constant(node):
            yield node.output[0], node.attribute[0].t


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _round_weights(graph: onnx.GraphProto, settings: set[str]) -> tuple[int, tuple[Overflow, ...]]:
    count, overflows = 0, []
    for name, tensor in _constants(graph):
        if tensor.data_type != TensorProto.FLOAT or name in settings:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16).astype(np.float32)
        if (np.isfinite(values) & ~np.isfinite(rounded)).any():
            overflows.append(Overflow(name=name, largest=float(np.abs(values[np.isfinite(values)]).max())))
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
        count += 1
    return count, tuple(overflows)


def _round_results(graph: onnx.GraphProto, types: dict[str, int], settings: set[str]) -> int:
    """Let each operator write under another name, and a pair of Casts make the name that is read."""
    nodes, count = [], 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type in _EXACT or _is_constant(node):
            continue
        floats = [name for name in node.output if types.get(name) == TensorProto.FLOAT and name not in settings]
        for index, name in enumerate(node.output):
            if name in floats:
                node.output[index] = f"{_PREFIX}{name}/f32"
                nodes += _rounding(node.output[index], name)
        count += bool(floats)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # copies: clearing empties the rest
    del graph.node[:]
    graph.node.extend(kept)
    return count


def _round_input(graph: onnx.GraphProto, name: str) -> None:
    rounded = f"{_PREFIX}{name}"
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = rounded
    for place, node in enumerate(_rounding(name, rounded)):
        graph.node.insert(place, node)


def _rounding(source: str, target: str) -> list[onnx.NodeProto]:
    middle = f"{_PREFIX}{target}/fp16"
    return [
        helper.make_node("Cast", [source], [middle], name=f"{middle}/down", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [middle], [target], name=f"{middle}/up", to=TensorProto.FLOAT),
    ]
