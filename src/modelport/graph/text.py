"""Names in ONNX files: protobuf hands out as bytes those that are not UTF-8, and nothing that reads names expects that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from ..errors import FormatError


def refuse_other_than_text(path: Path, model: onnx.ModelProto) -> None:
    """Raise FormatError where a name in the file is not UTF-8."""
    odd = next((text for text in _names(model) if isinstance(text, bytes)), None)
    if odd is not None:
        raise FormatError(f"{path}: is not a valid ONNX graph: the name {odd[:60]!r} in it is not UTF-8")


def dtype_name(number: int) -> str:
    """Name of a tensor's type, such as float16."""
    known = {value: name.lower() for name, value in onnx.TensorProto.DataType.items()}
    return known.get(number, f"of the unknown type {number}")


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    graph = model.graph
    for opset in model.opset_import:
        yield opset.domain
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
