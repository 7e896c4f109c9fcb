"""A classifier that takes the decoder's pixels: uint8 N x height x width x channels instead of normalised float32 NCHW.

The normalisation and the layout become the graph's first operators, on a quarter of the bytes. They stay operators of
their own: a shift folded into a padded convolution would be wrong at the edges, where the padding's zeros stand for the
mean and not for black.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .. import files
from ..errors import FormatError
from ..spec import ColorOrder, Preprocess
from .classifier import ClassifierGraph

_PREFIX = "modelport.uint8/"
_OLDEST_OPSET = 7  # from there on Sub and Mul broadcast as NumPy does


def take_uint8(graph: ClassifierGraph, preprocess: Preprocess, output: Path) -> ClassifierGraph:
    """Write the classifier with a uint8 NHWC input of the same name; colour is in RGB order, as the decoder gives it.

    `(pixel - mean * 255) * (1 / (std * 255))` in float32, which is the float path's `(pixel / 255 - mean) / std` within
    rounding. Weights are written into the file. Everything else stays: batch, output, metadata.

    Args:
        graph: float32 NCHW.
        preprocess: its channel order, mean and standard deviation.
        output: file to write; not the graph's own.

    Returns:
        The facts of `graph`, `sha256` included, with the new path: it is still the same classifier.

    Raises:
        FormatError: the opset is too old, or the preprocessing has another number of channels.
    """
    if graph.opset < _OLDEST_OPSET:
        raise FormatError(
            f"{graph.path}: has opset {graph.opset}, uint8 input needs {_OLDEST_OPSET} or later: export it with --opset 11"
        )
    channels = len(preprocess.mean)
    if channels != graph.input_size[0]:
        raise FormatError(
            f"{graph.path}: takes {graph.input_size[0]} channels, the preprocessing prepares {channels}; "
            "say how its images are prepared with --recipe or --preprocess"
        )
    model = onnx.load(graph.path)
    normalised = f"{_PREFIX}{graph.input_name}"
    _rename_reads(model.graph.node, graph.input_name, normalised)
    added = [*_constants(preprocess), *_prepare(graph.input_name, normalised, preprocess)]
    for place, node in enumerate(added):
        model.graph.node.insert(place, node)
    for value in model.graph.input:
        if value.name == graph.input_name:
            _retype(value)
    files.write_bytes(output, model.SerializeToString())
    return replace(graph, path=output)


def _constants(preprocess: Preprocess) -> list[onnx.NodeProto]:
    """Computed in float64; float32 holds them to half a unit in the last place. Operators, which any ONNX may hold."""
    mean, std = np.array(preprocess.mean)[:, None, None] * 255, np.array(preprocess.std)[:, None, None] * 255
    values = {"mean": mean.astype(np.float32), "scale": (1 / std).astype(np.float32)}
    if _swaps(preprocess):
        values["order"] = np.array([2, 1, 0], dtype=np.int64)
    return [
        helper.make_node(
            "Constant", [], [f"{_PREFIX}{name}"], name=f"{_PREFIX}{name}/constant", value=numpy_helper.from_array(value)
        )
        for name, value in values.items()
    ]


def _swaps(preprocess: Preprocess) -> bool:
    return preprocess.color_order is ColorOrder.BGR and len(preprocess.mean) == 3


def _prepare(source: str, target: str, preprocess: Preprocess) -> list[onnx.NodeProto]:
    """From pixels to the network's input. Channels are moved while they are bytes."""
    steps: list[tuple[str, list[str], dict[str, object]]] = [("Transpose", [], {"perm": [0, 3, 1, 2]})]
    if _swaps(preprocess):
        steps.append(("Gather", ["order"], {"axis": 1}))
    steps += [("Cast", [], {"to": TensorProto.FLOAT}), ("Sub", ["mean"], {}), ("Mul", ["scale"], {})]
    nodes = []
    for number, (kind, constants, attributes) in enumerate(steps, start=1):
        name = f"{_PREFIX}{kind.lower()}"
        result = target if number == len(steps) else f"{name}/result"
        read = [source, *(f"{_PREFIX}{constant}" for constant in constants)]
        nodes.append(helper.make_node(kind, read, [result], name=name, **attributes))
        source = result
    return nodes


def _retype(value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    batch, channels, height, width = (onnx.TensorShapeProto.Dimension.FromString(dim.SerializeToString())
                                      for dim in tensor.shape.dim)  # fmt: skip
    del tensor.shape.dim[:]
    tensor.shape.dim.extend([batch, height, width, channels])


def _rename_reads(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    """In these operators and in their subgraphs, which see the names outside them."""
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _rename_reads(inner.node, old, new)
