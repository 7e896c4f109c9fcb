"""Regions of a graph that treat every channel by itself, and copies of them for some of the channels only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx_ir as ir

from .edit import Editor, constant, integer, is_constant_node, only_read_by

_POINTWISE = frozenset(
    (
        *(
            "Abs",
            "Celu",
            "Clip",
            "Elu",
            "Erf",
            "Exp",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "Log",
        ),
        *("Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish"),
        *("Tanh", "ThresholdedRelu"),
        *("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"),
    )
)
Range = tuple[int, int]  # channels from … up to, not including


class RefusedError(Exception):
    """A place that cannot be rewritten, and why."""


@dataclass(frozen=True, slots=True)
class Region:
    """Operators between a value and what is computed of it, channel by channel.

    Attributes:
        root: the value that goes in; the only one that is no constant.
        exit: the value that comes out; the root itself where there is no operator.
        nodes: in the graph's order.
        rank: axes of all its values; channels are axis 1.
    """

    root: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]
    rank: int

    @classmethod
    def before(cls, exit_: ir.Value, rank: int, *, grouped: bool = False) -> Self:
        """The largest region that ends in a value.

        Args:
            exit_: where it ends.
            rank: of the values.
            grouped: whether a grouped convolution may be in it, which treats every group by itself.

        Raises:
            RefusedError: two values meet in it, or another operator reads a value inside.
        """
        nodes: set[ir.Node] = set()
        roots: dict[ir.Value, None] = {}
        open_ = [exit_]
        while open_:
            value = open_.pop()
            node = value.producer()
            if node is None or not _treats_channels_apart(node, grouped):
                roots[value] = None
            elif node not in nodes:
                nodes.add(node)
                open_ += _variables(node)
        if len(roots) != 1:
            raise RefusedError(f"{len(roots)} values meet before it")
        (root,) = roots
        region = cls(root, exit_, _in_order(nodes), rank)
        region._require_private(nodes)
        return region

    def _require_private(self, nodes: set[ir.Node]) -> None:
        for value in [self.root, *(node.outputs[0] for node in self.nodes)]:
            if value is not self.exit and not only_read_by(value, nodes):
                raise RefusedError(f"{value.name!r} is read elsewhere as well")

    def channels(self, of_root: int) -> dict[ir.Value, int]:
        """Channels of each of its values.

        Raises:
            RefusedError: a constant in it makes more channels, or is not laid out along them.
        """
        found = {self.root: of_root}
        for node in self.nodes:
            count = found[next(value for value in _variables(node) if value in found)]
            for index, value in enumerate(node.inputs):
                if value is not None and value not in found and node.op_type != "Conv":
                    array = constant(value)
                    axis = self._axis(node, array)
                    if array.ndim > self.rank or (axis is not None and array.shape[axis] != count):
                        raise RefusedError(
                            f"constant {value.name!r} (input {index} of {node.op_type}) has shape {array.shape}, which does not "
                            f"fit {count} channels"
                        )
            found[node.outputs[0]] = constant(node.inputs[1]).shape[0] if node.op_type == "Conv" else count
        return found

    def ranges(self, part: Range) -> dict[ir.Value, Range]:
        """Which channels of each value go into these channels of the exit.

        Raises:
            RefusedError: the part's edges cut a group of a grouped convolution, or ways through the region disagree.
        """
        found = {self.exit: part}
        for node in reversed(self.nodes):
            needed = found[node.outputs[0]]
            needed = _into_groups(node, needed) if node.op_type == "Conv" else needed
            for value in _variables(node):
                if found.setdefault(value, needed) != needed:
                    raise RefusedError(f"{value.name!r} would be needed with different channels")
        return found

    def copy(self, editor: Editor, root: ir.Value, ranges: Mapping[ir.Value, Range], mark: str) -> list[ir.Node]:
        """The region's operators again, for some of the channels.

        Args:
            editor: of the graph.
            root: what the copy reads in place of the root: those channels of it.
            ranges: channels of each of the region's values, the root's among them.
            mark: put behind the names.

        Returns:
            Operators that are not yet in the graph; the last one's result is the exit's.
        """
        made: dict[ir.Value, ir.Value] = {self.root: root}
        copies = []
        for node in self.nodes:
            inputs = [made.get(value, value) for value in node.inputs]
            part, attributes = ranges[node.outputs[0]], list(node.attributes.values())
            for index, value in enumerate(node.inputs):
                if value is not None and value not in made:
                    inputs[index] = self._cut(editor, node, index, part)
            if node.op_type == "Conv":
                groups = _groups(node, part)
                attributes = [attribute for attribute in attributes if attribute.name != "group"]
                attributes.append(ir.AttrInt64("group", groups[1] - groups[0]))
            copies.append(editor.node(node.op_type, inputs, attributes, f"{node.outputs[0].name}/{mark}"))
            made[node.outputs[0]] = copies[-1].outputs[0]
        return copies

    def _cut(self, editor: Editor, node: ir.Node, index: int, part: Range) -> ir.Value:
        """A constant input of an operator, with only some of the channels; the constant itself where it has no channels."""
        value = node.inputs[index]
        array = constant(value)
        if (axis := self._axis(node, array)) is None:
            return value
        return editor.weight(f"{value.name}/{part[0]}-{part[1]}", np.take(array, range(*part), axis=axis))

    def _axis(self, node: ir.Node, array: np.ndarray) -> int | None:
        """Which axis of a constant input are the channels; None where it is the same for all of them."""
        if node.op_type in ("Conv", "BatchNormalization"):
            return 0
        axis = array.ndim - self.rank + 1
        return axis if axis >= 0 and array.ndim and array.shape[axis] != 1 else None


def _treats_channels_apart(node: ir.Node, grouped: bool) -> bool:
    if node.domain not in ("", "ai.onnx") or is_constant_node(node) or len(_variables(node)) == 0:
        return False
    if node.op_type == "Conv":
        weights = all(constant(value) is not None for value in node.inputs[1:] if value is not None)
        return grouped and integer(node, "group", 1) > 1 and weights
    if node.op_type == "BatchNormalization":
        return is_plain_normalization(node)
    return node.op_type in _POINTWISE and len(node.outputs) == 1


def is_plain_normalization(node: ir.Node) -> bool:
    """Whether a BatchNormalization is one of inference: constant statistics, nothing but its first output."""
    fixed = all(constant(value) is not None for value in node.inputs[1:])
    plain = not integer(node, "training_mode", 0) and integer(node, "spatial", 1)
    return bool(fixed and plain) and all(not value.uses() for value in node.outputs[1:])


def _variables(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None and constant(value) is None]


def _in_order(nodes: set[ir.Node]) -> tuple[ir.Node, ...]:
    graph = next(iter(nodes)).graph if nodes else ()
    return tuple(node for node in graph if node in nodes)


def _groups(node: ir.Node, part: Range) -> Range:
    """Which groups of a grouped convolution make these channels."""
    size = constant(node.inputs[1]).shape[0] // integer(node, "group", 1)
    if part[0] % size or part[1] % size:
        raise RefusedError(
            f"channels {part[0]}…{part[1] - 1} cut a group of convolution {node.name!r}, whose groups make {size} channels each"
        )
    return part[0] // size, part[1] // size


def _into_groups(node: ir.Node, part: Range) -> Range:
    size = constant(node.inputs[1]).shape[1]
    first, last = _groups(node, part)
    return first * size, last * size
