"""Normalisation, and scaling and shifting by constants, folded into the convolution or Gemm beside it.

After one: `s·(W·x + b) + t = (s·W)·x + (s·b + t)`, per output channel; exact for every convolution. Before one:
`W·(s·x + t) + b = (W·s)·x + (b + ΣW·t)`, per input channel. The scale is exact before every convolution, since padding's
zeros stay zeros. The shift is exact only where nothing is padded: at the edges a padded zero stands for `t` after the
shift, not for `s·0 + t`; so it is refused there. A BatchNormalization in inference is `s = scale ÷ √(variance + ε)`,
`t = bias − s·mean` (ONNX operator specification).

onnxscript's rules do a part of this (a BatchNormalization after a convolution with weights of its own). Here weights may be
shared, constants differ per channel, both sides are looked at, and folding is done in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from .base import Found, GraphPass
from .edit import Editor, constant, floating, integer, integers, only_read_by, over_channels, parameters
from .pointwise import is_plain_normalization

_AFFINE = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Sub"})
_LINEAR = frozenset({"Conv", "Gemm"})


@dataclass(frozen=True, slots=True)
class _Affine:
    """`scale · x + shift`, a number per channel, float64."""

    scale: np.ndarray
    shift: np.ndarray

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())


@dataclass(frozen=True, slots=True)
class _Linear:
    """A convolution or Gemm with constant parameters. `bias` is float64 and what is really added (Gemm's beta within)."""

    node: ir.Node
    weights: np.ndarray
    bias: np.ndarray

    @property
    def inward(self) -> bool:
        """Whether the weights are inputs x outputs."""
        return self.node.op_type == "Gemm" and not integer(self.node, "transB", 0)

    @property
    def padded(self) -> bool:
        """Whether anything is padded. A Gemm never is."""
        how = self.node.attributes["auto_pad"].as_string() if "auto_pad" in self.node.attributes else "NOTSET"
        return self.node.op_type == "Conv" and (how not in ("NOTSET", "VALID") or any(integers(self.node, "pads")))

    @property
    def inputs(self) -> int:
        """Channels that it reads."""
        if self.node.op_type == "Gemm":
            return self.weights.shape[0 if self.inward else 1]
        return self.weights.shape[1] * integer(self.node, "group", 1)

    def by_input(self, values: np.ndarray) -> np.ndarray:
        """One number per input channel, laid out to be multiplied with the weights."""
        if self.node.op_type == "Gemm":
            return values[:, None] if self.inward else values[None, :]
        groups = integer(self.node, "group", 1)
        spread = values.reshape(groups, -1).repeat(self.weights.shape[0] // groups, axis=0)
        return spread.reshape(spread.shape + (1,) * (self.weights.ndim - 2))

    def by_output(self, values: np.ndarray) -> np.ndarray:
        """One number per output channel, laid out to be multiplied with the weights."""
        return values[None, :] if self.inward else values.reshape((-1,) + (1,) * (self.weights.ndim - 1))

    def summed(self, weights: np.ndarray) -> np.ndarray:
        """The weights summed per output channel."""
        return weights.sum(axis=0) if self.inward else weights.reshape(len(weights), -1).sum(axis=1)


class FoldNormalization(GraphPass):
    """See the module."""

    name: ClassVar[str] = "fold_normalization"
    summary: ClassVar[str] = "normalisation and constant factors folded into weights"
    rule: ClassVar[str | None] = "fewer operators, no more arithmetic"
    nothing: ClassVar[str] = "no normalisation or constant factor stands beside a convolution or Gemm"

    def _rewrite(self, model: ir.Model) -> Found:
        editor, sites = Editor(model), 0
        refused: dict[str, None] = {}
        again = True
        while again:  # a chain folds from its end that touches a convolution
            done = 0
            for node in [node for node in model.graph if node.op_type in _AFFINE and node.domain in ("", "ai.onnx")]:
                done += _fold_back(editor, node) or _fold_ahead(editor, node, refused)
            again, sites = done > 0, sites + done
        return Found(sites, tuple(refused))


def _fold_back(editor: Editor, node: ir.Node) -> bool:
    """Into the convolution or Gemm before the operator."""
    for value in node.inputs:
        linear = _linear(value.producer()) if value is not None else None
        if linear is None or not only_read_by(value, {node}):
            continue
        affine = _affine(node, value, linear.weights.ndim, len(linear.bias))
        if affine is not None:
            weights = linear.weights * linear.by_output(affine.scale)
            bias = linear.bias * affine.scale + affine.shift
            if _place(editor, linear, linear.node.inputs[0], (weights, bias), node):
                return True
    return False


def _fold_ahead(editor: Editor, node: ir.Node, refused: dict[str, None]) -> bool:
    """Into the convolution or Gemm behind the operator."""
    output = node.outputs[0]
    linear = _linear(next(iter(output.consumers()), None))
    if linear is None or linear.node.inputs[0] is not output or not only_read_by(output, {linear.node}):
        return False
    for value in node.inputs:
        affine = _affine(node, value, linear.weights.ndim, linear.inputs) if value is not None else None
        if affine is None:
            continue
        if affine.shift.any() and linear.padded:
            refused[
                f"{node.op_type} {node.name!r} stays before convolution {linear.node.name!r}: its shift would be missing where "
                "that pads with zeros"
            ] = None
            continue
        alpha = floating(linear.node, "alpha", 1.0)
        shifted = alpha * linear.summed(linear.weights * linear.by_input(affine.shift))
        weights = linear.weights * linear.by_input(affine.scale)
        if _place(editor, linear, value, (weights, linear.bias + shifted), linear.node):
            editor.graph.remove(node, safe=True)
            return True
    return False


def _linear(node: ir.Node | None) -> _Linear | None:
    """The operator with its parameters; None where it is another one, or they are computed."""
    if node is None or node.op_type not in _LINEAR or node.domain not in ("", "ai.onnx") or integer(node, "transA", 0):
        return None
    found = parameters(node)
    if found is None:
        return None
    weights, bias = found
    outputs = weights.shape[1 if node.op_type == "Gemm" and not integer(node, "transB", 0) else 0]
    added = np.zeros(outputs)
    if bias is not None:
        added = bias.astype(np.float64) if node.op_type == "Conv" else over_channels(bias, 2, outputs)
    return None if added is None else _Linear(node, weights, added * floating(node, "beta", 1.0))


def _affine(node: ir.Node, x: ir.Value, rank: int, channels: int) -> _Affine | None:
    """The operator as a function of one of its inputs; None where it is no such function, or not per channel."""
    if node.op_type == "BatchNormalization":
        if node.inputs[0] is not x or not is_plain_normalization(node):
            return None
        scale, bias, mean, variance = (constant(value).astype(np.float64) for value in node.inputs[1:5])
        factor = scale / np.sqrt(variance + floating(node, "epsilon", 1e-5))
        found = _Affine(factor, bias - factor * mean)
        return found if found.finite and len(factor) == channels else None
    first = node.inputs[0] is x
    array = constant(node.inputs[1 if first else 0])
    other = None if array is None else over_channels(array, rank, channels)
    if other is None or constant(x) is not None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    with np.errstate(divide="ignore"):
        made = {
            "Add": _Affine(one, other),
            "Mul": _Affine(other, zero),
            "Sub": _Affine(one, -other) if first else _Affine(-one, other),
            "Div": _Affine(1 / other, zero) if first else None,
        }[node.op_type]
    return made if made is not None and made.finite else None


def _place(
    editor: Editor, linear: _Linear, source: ir.Value, parameters_: tuple[np.ndarray, np.ndarray], last: ir.Node
) -> bool:
    """Put the operator with other parameters in the place of `last`; False where they are beyond its type."""
    old = linear.node
    with np.errstate(over="ignore"):
        weights, bias = (array.astype(linear.weights.dtype) for array in parameters_)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        return False
    output, name = last.outputs[0], old.name
    inputs = [source, editor.weight(f"{output.name}/folded/weight", weights)]
    if bias.any() or len(old.inputs) > 2:
        inputs.append(editor.weight(f"{output.name}/folded/bias", bias))
    attributes = [attribute for attribute in old.attributes.values() if attribute.name != "beta"]
    made = editor.node(old.op_type, inputs, attributes, f"{output.name}/folded")
    editor.graph.insert_before(last, made)
    editor.replace(output, made.outputs[0])
    editor.graph.remove([last] if last is old else [last, old], safe=True)
    made.name = name
    return True
