"""Groups of a grouped convolution are merged into fewer and wider ones.

The weights of m groups become one block-diagonal matrix, zeros elsewhere, so each output adds products with zero to the ones
it had: the same number, unless an input is infinite. The work is m times as much on paper. It pays where a target computes
in blocks that one group does not fill: 4 channels of a group in registers of 16 are three quarters air.

Depthwise convolutions are left alone: runtimes have code of their own for them, which no merged group can match.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from .base import Found, GraphPass
from .edit import Editor, constant, integer

WIDTHS = (8, 16, 32)  # input channels a group: half, one and two registers of AVX-512 in float32


class MergeGroups(GraphPass):
    """Merge until a group has at least `width` input channels, or the groups cannot be merged further."""

    name: ClassVar[str] = "merge_groups"
    summary: ClassVar[str] = "groups of grouped convolutions merged, with zeros in between"
    rule: ClassVar[str | None] = None

    def __init__(self, width: int) -> None:
        self.width = width

    @property
    def label(self) -> str:
        return f"{self.name}:{self.width}"

    @property
    def nothing(self) -> str:
        """The reason where a graph holds no such place."""
        return f"no convolution has groups of 2 to {self.width - 1} input channels"

    @classmethod
    def variants(cls, width: int | None) -> tuple[GraphPass, ...]:
        return tuple(cls(found) for found in WIDTHS) if width is None else (cls(width),)

    def _rewrite(self, model: ir.Model) -> Found:
        editor, sites = Editor(model), 0
        for node in model.graph:
            if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
                continue
            weights, groups = constant(node.inputs[1]), integer(node, "group", 1)
            if weights is None or groups == 1 or not 1 < weights.shape[1] < self.width:
                continue
            factor = _factor(groups, weights.shape[1], self.width)
            merged = _block_diagonal(weights, groups, factor)
            node.replace_input_with(1, editor.weight(f"{node.outputs[0].name}/merged{factor}", merged))
            node.attributes["group"] = ir.AttrInt64("group", groups // factor)
            sites += 1
        return Found(sites)


def _factor(groups: int, channels: int, width: int) -> int:
    """How many groups become one: the fewest that make it wide enough, of those that divide the groups evenly."""
    return next((n for n in range(2, groups) if groups % n == 0 and n * channels >= width), groups)


def _block_diagonal(weights: np.ndarray, groups: int, factor: int) -> np.ndarray:
    """Weights for `groups` ÷ `factor` groups.

    Args:
        weights: outputs x inputs of a group x kernel…; the groups' outputs one after another.
        groups: of these weights.
        factor: groups that become one.

    Returns:
        Outputs x (inputs of a group x factor) x kernel….
    """
    outputs, inputs, *kernel = weights.shape
    merged = np.zeros((groups // factor, factor, outputs // groups, factor, inputs, *kernel), weights.dtype)
    blocks = weights.reshape(groups // factor, factor, outputs // groups, inputs, *kernel)
    for place in range(factor):
        merged[:, place, :, place] = blocks[:, place]
    return merged.reshape(outputs, factor * inputs, *kernel)
