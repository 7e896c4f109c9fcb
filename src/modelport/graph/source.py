"""The ONNX graph behind an offline model, without its weights: which nodes an engine's operator stands for.

Engines fuse and rename. A copy of the graph that was compiled, with the weights' values left out, lies in the offline model
as `source.onnx`; it opens in any ONNX viewer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from ..errors import FormatError
from .precheck import read_model
from .text import refuse_other_than_text

SOURCE_FILE = "source.onnx"
_KEPT_ELEMENTS = 64  # small constants (axes, sizes of a Split, shapes) say what a node does
_VALUES = (
    *("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"),
    "external_data",
)


@dataclass(frozen=True, slots=True)
class SourceNode:
    """One node. A node without a name is known by its first output."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class SourceGraph:
    """Nodes of an ONNX graph by name and by the tensors between them."""

    def __init__(self, nodes: Iterable[SourceNode]) -> None:
        """`nodes` in topological order."""
        self.nodes = {node.name: node for node in nodes}
        self._producers = {tensor: node for node in self.nodes.values() for tensor in node.outputs}

    @classmethod
    def read(cls, path: Path) -> SourceGraph:
        """Read an ONNX file; its weights are not needed.

        Raises:
            FormatError: it is missing, or no ONNX file.
        """
        model = read_model(path, weights=False)
        if not model.graph.node:
            raise FormatError(f"{path}: is not an ONNX file with nodes in it")
        refuse_other_than_text(path, model)
        return cls(
            SourceNode(
                node.name or next(iter(node.output), ""),
                node.op_type,
                tuple(filter(None, node.input)),
                tuple(filter(None, node.output)),
            )
            for node in model.graph.node
        )

    @cached_property
    def tensors(self) -> frozenset[str]:
        """Names of all tensors that nodes read or make."""
        return frozenset(tensor for node in self.nodes.values() for tensor in (*node.inputs, *node.outputs))

    @cached_property
    def _order(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.nodes)}

    def find(self, names: Iterable[str]) -> tuple[SourceNode, ...]:
        """The nodes with these names, or that make tensors of these names, in the graph's order; unknown names are passed over."""
        found = (self.nodes.get(name) or self._producers.get(name) for name in names)
        return self._sorted(node for node in found if node is not None)

    def named_in(self, text: str) -> tuple[SourceNode, ...]:
        """The nodes whose names a fused operator's name is put together from, as ATC does (`Conv_0LeakyRelu_1`)."""
        found = []
        for name in sorted(self.nodes, key=len, reverse=True):  # Conv_12 before Conv_1
            if name and name in text:
                found.append(self.nodes[name])
                text = text.replace(name, "\0")
        return self._sorted(found)

    def between(self, outputs: Iterable[str], known: frozenset[str]) -> tuple[SourceNode, ...]:
        """The nodes that compute `outputs` from tensors in `known`, which other operators make."""
        outputs = set(outputs)
        waiting, found = list(outputs), {}
        while waiting:
            tensor = waiting.pop()
            node = self._producers.get(tensor)
            if node is None or node.name in found or (tensor in known and tensor not in outputs):
                continue
            found[node.name] = node
            waiting += node.inputs
        return self._sorted(found.values())

    def _sorted(self, nodes: Iterable[SourceNode]) -> tuple[SourceNode, ...]:
        unique = {node.name: node for node in nodes}
        return tuple(sorted(unique.values(), key=lambda node: self._order[node.name]))


def write_source(onnx_file: Path, directory: Path) -> str:
    """Write `source.onnx` into an offline model's directory: the graph without its weights' values.

    Returns:
        Its name there.
    """
    model = onnx.load(onnx_file, load_external_data=False)
    for tensor in [*model.graph.initializer, *_constants(model.graph.node)]:
        size = 1
        for dim in tensor.dims:
            size *= dim
        if size > _KEPT_ELEMENTS or tensor.data_location == onnx.TensorProto.EXTERNAL:
            for field in _VALUES:
                tensor.ClearField(field)  # type: ignore[arg-type]
            tensor.ClearField("data_location")
    for node in model.graph.node:  # the exporter's stack traces are most of the rest, and name files of its machine
        del node.metadata_props[:]
    onnx.save(model, directory / SOURCE_FILE)
    return SOURCE_FILE


def _constants(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
