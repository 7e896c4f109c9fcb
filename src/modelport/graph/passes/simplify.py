"""Identities and dropout removed, constants folded, small patterns fused: by onnxscript's optimiser.

onnxscript's optimiser was chosen of what there is: it is the ONNX project's and PyTorch's own (their exporter runs it), works
in Python at every opset, and keeps dynamic dimensions. onnx-simplifier and onnxoptimizer hardly move any more.
Source: https://onnxscript.ai/tutorial/optimizer/optimize.html
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import onnx_ir as ir

from .base import Found, GraphPass
from .edit import constant

_ALLOWZERO_FROM = 14


class Simplify(GraphPass):
    """See the module."""

    name: ClassVar[str] = "simplify"
    summary: ClassVar[str] = "identities and dropout removed, constants folded"
    rule: ClassVar[str | None] = "fewer operators, no more arithmetic"
    nothing: ClassVar[str] = "there is no identity, no constant arithmetic and no known pattern"

    def _rewrite(self, model: ir.Model) -> Found:
        from onnx_ir.passes.common import IdentityEliminationPass
        from onnxscript import optimizer

        before = _count(model)
        _drop_dropout(model)
        try:
            optimizer.optimize_ir(model)
            IdentityEliminationPass()(model)
        except Exception as error:  # it raises whatever the evaluation of an operator raises
            line = (str(error).strip().splitlines() or [""])[0]
            return Found(0, (f"onnxscript's optimiser fails on this graph: {type(error).__name__}: {line}",))
        if model.graph.opset_imports.get("", _ALLOWZERO_FROM) < _ALLOWZERO_FROM:
            _drop_allowzero(model)
        removed = before - _count(model)
        return Found(removed.total())


def _drop_dropout(model: ir.Model) -> None:
    """Dropout that is not training is an Identity; onnxscript knows only the form of opset 12 and later."""
    for node in model.graph.all_nodes():
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if node.op_type != "Dropout" or node.domain != "" or any(mask.uses() for mask in node.outputs[1:]):
            continue
        if training is None or (constant(training) is not None and not constant(training).any()):
            node.op_type = "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
            node.resize_outputs(1)


def _drop_allowzero(model: ir.Model) -> None:
    """onnxscript gives Reshapes this attribute at every opset; without a 0 in the shape it says nothing."""
    for node in model.graph.all_nodes():
        if node.op_type == "Reshape" and node.domain == "" and "allowzero" in node.attributes:
            shape = constant(node.inputs[1])
            if shape is not None and shape.all():
                del node.attributes["allowzero"]


def _count(model: ir.Model) -> Counter[str]:
    """Operators by type; constants are none."""
    return Counter(node.op_type for node in model.graph.all_nodes() if node.op_type != "Constant")
