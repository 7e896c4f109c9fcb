"""What is different about an operator between two ONNX files: its type, its attributes, its weights; and whether it is quantised."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..errors import FormatError
from .network import Network, Operator

_DEQUANTIZE = "DequantizeLinear"


def differences(a: Network, b: Network, operator: Operator) -> tuple[str, ...]:
    """How B's operator of the same name, or of the same result, differs from A's, each in a few words.

    Weights are compared where both files hold them in floating point.
    """
    other = _counterpart(b, operator)
    if other is None:
        return ()
    if other.kind != operator.kind:
        return (f"it is {_article(operator.kind)} in A and {_article(other.kind)} in B",)
    found = []
    ours, theirs = _attributes(operator.node), _attributes(other.node)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            found.append(f"{name} is {_show(ours.get(name))} in A and {_show(theirs.get(name))} in B")
    here, there = a.weights(operator), b.weights(other)
    for index in sorted(here.keys() & there.keys()):
        found += _weights_differ(index, here[index], there[index])
    return tuple(found)


def quantized_operators(network: Network) -> dict[str, Operator]:
    """Operators that read dequantised tensors, by name: those that int8 computes in integers, and those it passes through."""
    return {
        operator.name: operator
        for operator in network.makers.values()
        if operator.kind not in (_DEQUANTIZE, "QuantizeLinear")
        and any(network.makers[name].kind == _DEQUANTIZE for name in operator.reads if name in network.makers)
    }


def find_operator(network: Network, name: str) -> Operator:
    """The operator of a name.

    Raises:
        FormatError: there is none.
    """
    for operator in network.makers.values():
        if name in (operator.name, *operator.node.output):
            return operator
    raise FormatError(f"{network.path}: has no operator {name!r}")


def _counterpart(network: Network, operator: Operator) -> Operator | None:
    for other in network.makers.values():
        if operator.node.name and other.node.name == operator.node.name:
            return other
    return next((network.makers[name] for name in operator.node.output if name in network.makers), None)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {
        attribute.name: onnx.helper.get_attribute_value(attribute)
        for attribute in node.attribute
        if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSOR)
    }


def _weights_differ(index: int, ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    what = {1: "the weight", 2: "the bias"}.get(index, f"constant {index}")
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return [f"{what} is {_kind(ours)} in A and {_kind(theirs)} in B"]
    changed = int((ours != theirs).sum())
    if not changed:
        return []
    largest = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
    return [f"{changed:,} of {ours.size:,} values of {what} differ, by up to {largest:.3g}"]


def _kind(values: np.ndarray) -> str:
    return f"{values.dtype} {'x'.join(map(str, values.shape)) or 'scalar'}"


def _article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOU' else 'a'} {kind}"


def _show(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:g}"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
