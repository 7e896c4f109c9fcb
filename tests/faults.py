"""Faults planted in ONNX files, that a comparison must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def find(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The operator of this name."""
    return next(node for node in model.graph.node if node.name == name)


def change_weight(source: Path, target: Path, operator: str, factor: float) -> Path:
    """The same file with one convolution's weight multiplied, but for its first output channel."""
    model = onnx.load(source)
    scale(model, find(model, operator).input[1], np.s_[1:], factor)
    target.write_bytes(model.SerializeToString())
    return target


def change_slope(source: Path, target: Path, operator: str, alpha: float) -> Path:
    """The same file with another slope of one LeakyReLU."""
    model = onnx.load(source)
    (attribute,) = find(model, operator).attribute
    attribute.f = alpha
    target.write_bytes(model.SerializeToString())
    return target


def scale(model: onnx.ModelProto, name: str, part: object, factor: float) -> None:
    """Multiply a part of a weight, in place."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[part] *= factor  # type: ignore[call-overload]
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def rename(source: Path, target: Path, suffix: str, *, but: tuple[str, ...] = ()) -> Path:
    """The same graph with a suffix on the names of all operators and of all tensors but these, the input and the scores."""
    model = onnx.load(source)
    ends = {model.graph.input[0].name, model.graph.output[0].name, *but}
    for node in model.graph.node:
        node.name += suffix
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in ends:
                    names[place] = name + suffix
    for tensor in model.graph.initializer:
        tensor.name += suffix
    target.write_bytes(model.SerializeToString())
    return target
