"""`Concat → Conv 1x1` becomes one convolution per part and a sum; the Concat is gone.

A 1x1 convolution over concatenated channels adds up products of all of them, so it is the sum of convolutions over the
parts, each with its columns of the weights; the bias goes with the first. Activations and normalisation between the two act
on each channel by itself, so they move before the Concat, cut along the parts. The sum is added up in another order, which
changes its rounding.

It saves a copy of the parts and pays with an addition per part: measured on CPUs it is slower more often than faster.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from .base import Found, GraphPass
from .edit import Editor, channels_of, integer, integers, only_read_by, parameters, producer
from .pointwise import RefusedError, Region


class SumConcatConvolution(GraphPass):
    """See the module."""

    name: ClassVar[str] = "sum_concat_convolution"
    summary: ClassVar[str] = "Concat → Conv 1x1 into a sum of convolutions"
    rule: ClassVar[str | None] = None
    nothing: ClassVar[str] = "no 1x1 convolution follows a Concat of channels"

    def _rewrite(self, model: ir.Model) -> Found:
        editor, sites, refused = Editor(model), 0, []
        for conv in [node for node in model.graph if node.op_type == "Conv" and node.domain in ("", "ai.onnx")]:
            try:
                sites += _sum(editor, conv)
            except RefusedError as error:
                refused.append(f"convolution {conv.name!r} is left as it is: {error}")
        return Found(sites, tuple(refused))


def _sum(editor: Editor, conv: ir.Node) -> bool:
    """Rewrite one convolution; False where it follows no Concat."""
    if (found := parameters(conv)) is None or not _is_pointwise(conv, found[0]):
        return False
    weights, bias = found
    try:
        region = Region.before(conv.inputs[0], weights.ndim)
    except RefusedError:  # a residual sum, say
        return False
    concat = producer(region.root, "Concat")
    if concat is None or integer(concat, "axis", 1) not in (1, 1 - weights.ndim) or len(concat.inputs) < 2:
        return False
    if region.nodes and not only_read_by(region.exit, {conv}):
        raise RefusedError(f"{region.exit.name!r} is read elsewhere as well")
    if not only_read_by(region.root, {*region.nodes, conv}):
        raise RefusedError(f"Concat {concat.name!r} is read elsewhere as well")
    sizes = [channels_of(value) for value in concat.inputs]
    if None in sizes or sum(sizes) != weights.shape[1]:
        raise RefusedError(f"the channels of the parts of Concat {concat.name!r} are not known")
    region.channels(weights.shape[1])
    output, made, total = conv.outputs[0], [], None
    ends = np.cumsum(sizes).tolist()
    for number, (part, size, end) in enumerate(zip(concat.inputs, sizes, ends, strict=True)):
        mark, channels = f"part{number}", (end - size, end)
        copies = region.copy(editor, part, region.ranges(channels), mark)
        inputs = [copies[-1].outputs[0] if copies else part]
        inputs.append(editor.weight(f"{output.name}/{mark}/weight", weights[:, end - size : end]))
        if bias is not None and number == 0:
            inputs.append(editor.weight(f"{output.name}/bias", bias))
        made += [*copies, editor.node("Conv", inputs, list(conv.attributes.values()), f"{output.name}/{mark}")]
        if total is not None:
            made.append(editor.node("Add", [total, made[-1].outputs[0]], [], f"{output.name}/sum{number}"))
        total = made[-1].outputs[0]
    editor.graph.insert_before(conv, made)
    editor.replace(output, total)
    return True


def _is_pointwise(conv: ir.Node, weights: np.ndarray) -> bool:
    return integer(conv, "group", 1) == 1 and set(weights.shape[2:]) == {1} and not any(integers(conv, "pads"))
