"""What several passes need of a graph: constants, new names, new weights, and channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant(value: ir.Value | None) -> np.ndarray | None:
    """A constant's value, also where Identities stand between (TorchScript's exporter shares equal weights through them)."""
    while value is not None and (node := value.producer()) is not None and _plain(node, "Identity"):
        value = node.inputs[0]
    if value is None:
        return None
    found = ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def producer(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The operator of this type (of ONNX's own set) that makes a value; None where another does."""
    node = value.producer() if value is not None else None
    return node if node is not None and _plain(node, kind) else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return node.attributes[name].as_int() if name in node.attributes else default


def integers(node: ir.Node, name: str) -> list[int]:
    """A list attribute; empty where it is absent."""
    return list(node.attributes[name].as_ints()) if name in node.attributes else []


def floating(node: ir.Node, name: str, default: float) -> float:
    """A float attribute."""
    return node.attributes[name].as_float() if name in node.attributes else default


def only_read_by(value: ir.Value, nodes: set[ir.Node]) -> bool:
    """Whether nobody else reads a value, the graph's output included."""
    return not value.is_graph_output() and all(reader in nodes for reader in value.consumers())


def is_constant_node(node: ir.Node) -> bool:
    """Whether an operator only holds or passes on a constant."""
    return constant(node.outputs[0]) is not None if node.outputs else False


def parameters(node: ir.Node) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Constant weights and bias of a Conv or Gemm; None where they are computed."""
    weights = constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    values = None if bias is None else constant(bias)
    return None if weights is None or (bias is not None and values is None) else (weights, values)


def channels_of(value: ir.Value | None) -> int | None:
    """Size of axis 1, where it is known."""
    if value is None or value.shape is None or len(value.shape) < 2:
        return None
    size = value.shape[1]
    return size if isinstance(size, int) else None


def over_channels(array: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """A constant that is added to or multiplied with a tensor, as one number per channel.

    Args:
        array: the constant; it broadcasts as NumPy does.
        rank: of the tensor, channels on axis 1.
        channels: of the tensor.

    Returns:
        float64, `channels` long; None where the constant differs along another axis or would make the tensor larger.
    """
    if array.ndim > rank:
        return None
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1) or full.shape[1] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,))


class Editor:
    """Adds to one graph: names that nothing else has, weights and operators."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self._names = {value.name for value in model.graph.inputs} | set(model.graph.initializers)
        for node in model.graph.all_nodes():  # names inside subgraphs must not be hidden either
            self._names |= {value.name for value in node.outputs} | {node.name}

    def name(self, wanted: str) -> str:
        """The wanted name, or with a number where it is taken."""
        found, number = wanted, 1
        while found in self._names:
            number += 1
            found = f"{wanted}_{number}"
        self._names.add(found)
        return found

    def weight(self, wanted: str, array: np.ndarray) -> ir.Value:
        """A new constant of the graph."""
        name = self.name(wanted)
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(self, kind: str, inputs: list[ir.Value | None], attributes: list[ir.Attr], output: str) -> ir.Node:
        """A new operator with one output, not yet in the graph."""
        node = ir.Node("", kind, inputs, attributes, name=self.name(f"{output}/{kind}"))
        node.outputs[0].name = self.name(output)
        return node

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everyone read `new` in place of `old`, under the old name."""
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        name, old.name = old.name, self.name(f"{old.name}/replaced")
        new.name = name


def _plain(node: ir.Node, kind: str) -> bool:
    return node.op_type == kind and node.domain in ("", "ai.onnx")
