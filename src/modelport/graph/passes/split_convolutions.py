"""`Conv → activation → Split` over channels becomes one convolution per part; no Split is left.

A convolution's output channels do not depend on one another, so the part `[a, b)` of its output is the convolution with the
rows `[a, b)` of its weights and bias. Activations, normalisation and constants in between are cut along; a grouped
convolution in between too, where the parts begin and end with groups. Each channel is computed as before: the same products
in the same sum, so results differ by a runtime's order of adding up at most.

On an Ascend 310 such a Split is a StridedSliceD, which brings two TransData (layout changes) with it; on a CPU the parts
are written where they are read, instead of being copied.

Source of the pattern: cross-stage partial networks (Wang et al., CSPNet, 2019), where half of the channels go round a stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from .base import Found, GraphPass
from .edit import Editor, constant, integer, integers, is_constant_node, parameters, producer
from .pointwise import Range, RefusedError, Region


@dataclass(frozen=True, slots=True)
class _Cut:
    """A value that is some of the channels of another, and the operator that cuts it out."""

    node: ir.Node
    value: ir.Value
    part: Range


class SplitConvolutions(GraphPass):
    """See the module."""

    name: ClassVar[str] = "split_convolutions"
    summary: ClassVar[str] = "Conv → activation → Split into one convolution per part"
    rule: ClassVar[str | None] = "less data moved, no more arithmetic"
    nothing: ClassVar[str] = "no convolution is followed by a Split or Slices of its channels"

    def _rewrite(self, model: ir.Model) -> Found:
        editor, sites, refused = Editor(model), 0, []
        for source, rank in _cut_values(model.graph):
            try:
                sites += _split(editor, source, rank)
            except RefusedError as error:
                refused.append(f"{source.name!r} is left as it is: {error}")
        return Found(sites, tuple(refused))


def _cut_values(graph: ir.Graph) -> list[tuple[ir.Value, int]]:
    """Values that somebody cuts along axis 1, and how many axes they have."""
    found: dict[ir.Value, int] = {}
    for node in graph:
        if node.op_type in ("Split", "Slice") and node.inputs[0] is not None and not is_constant_node(node):
            source = node.inputs[0]
            rank = len(source.shape) if source.shape is not None else 0
            if rank > 2 and _axes(node, rank) == [1]:
                found[source] = rank
    return list(found.items())


def _split(editor: Editor, source: ir.Value, rank: int) -> bool:
    """Split the convolution that a value comes from; False where it comes from none."""
    region = Region.before(source, rank, grouped=True)
    conv = producer(region.root, "Conv")
    if conv is None:
        return False
    if (found := parameters(conv)) is None:
        raise RefusedError(f"the weights of convolution {conv.name!r} are computed")
    weights, bias = found
    cuts = _cuts(source, rank, region.channels(weights.shape[0])[source])
    plans = [
        (cut, region.ranges(cut.part)) for cut in cuts
    ]  # what can be refused is refused before anything is changed
    nodes = {cut.node for cut in cuts}
    first = next(node for node in editor.graph if node in nodes)
    for number, (cut, ranges) in enumerate(plans):
        low, high = ranges[region.root]
        mark = f"part{number}"
        inputs = [conv.inputs[0], editor.weight(f"{region.root.name}/{mark}/weight", weights[low:high])]
        if bias is not None:
            inputs.append(editor.weight(f"{region.root.name}/{mark}/bias", bias[low:high]))
        part = editor.node("Conv", inputs, list(conv.attributes.values()), f"{region.root.name}/{mark}")
        made = [part, *region.copy(editor, part.outputs[0], ranges, mark)]
        editor.graph.insert_before(first, made)
        editor.replace(cut.value, made[-1].outputs[0])
    return True


def _cuts(source: ir.Value, rank: int, channels: int) -> list[_Cut]:
    """Everything that reads a value, as cuts of its channels.

    Raises:
        RefusedError: somebody reads more than a cut of it, or two cuts overlap.
    """
    if source.is_graph_output():
        raise RefusedError("it is the graph's output")
    cuts = []
    for node in dict.fromkeys(source.consumers()):
        if node.op_type not in ("Split", "Slice") or _axes(node, rank) != [1]:
            raise RefusedError(f"{node.op_type} {node.name!r} reads all of its channels as well")
        cuts += _split_parts(node, channels) if node.op_type == "Split" else [_slice_part(node, channels)]
    read = [cut for cut in cuts if (cut.value.uses() or cut.value.is_graph_output()) and cut.part[0] < cut.part[1]]
    ordered = sorted(cut.part for cut in read)
    if not read or any(after[0] < before[1] for before, after in pairwise(ordered)):
        raise RefusedError("its parts overlap" if read else "nobody reads its parts")
    return read


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    """Axes that a Split or Slice cuts, none below 0; None where they are computed."""
    if node.op_type == "Split":
        axes = [integer(node, "axis", 0)]
    elif len(node.inputs) == 1:  # before opset 10
        axes = integers(node, "axes") or list(range(len(integers(node, "starts"))))
    elif len(node.inputs) > 3 and node.inputs[3] is not None:
        found = constant(node.inputs[3])
        axes = None if found is None else found.tolist()
    else:
        starts = constant(node.inputs[1])
        axes = None if starts is None else list(range(len(starts)))
    return None if axes is None else [axis + rank if axis < 0 else axis for axis in axes]


def _split_parts(node: ir.Node, channels: int) -> list[_Cut]:
    """Sizes: an attribute before opset 13, an input from there on, from 18 also a number of equal parts, the last smaller."""
    sizes = integers(node, "split")
    if not sizes and len(node.inputs) > 1 and node.inputs[1] is not None:
        found = constant(node.inputs[1])
        if found is None:
            raise RefusedError(f"the sizes of Split {node.name!r} are computed")
        sizes = found.tolist()
    if not sizes:
        size = -(-channels // len(node.outputs))
        sizes = [max(0, min(size, channels - size * number)) for number in range(len(node.outputs))]
    if sum(sizes) != channels or len(sizes) != len(node.outputs):
        raise RefusedError(f"Split {node.name!r} makes parts of {sizes} out of {channels} channels")
    ends = np.cumsum(sizes).tolist()
    return [_Cut(node, value, (end - size, end)) for value, size, end in zip(node.outputs, sizes, ends, strict=True)]


def _slice_part(node: ir.Node, channels: int) -> _Cut:
    """As NumPy's slices: below 0 counts from the end, beyond the end is the end."""
    if len(node.inputs) == 1:
        start, end, step = integers(node, "starts"), integers(node, "ends"), [1]
    else:
        start, end = constant(node.inputs[1]), constant(node.inputs[2])
        step = constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    if start is None or end is None or step is None:
        raise RefusedError(f"the ends of Slice {node.name!r} are computed")
    if int(step[0]) != 1:
        raise RefusedError(f"Slice {node.name!r} takes every {int(step[0])}th channel")
    low, high, _ = slice(int(start[0]), int(end[0])).indices(channels)
    return _Cut(node, node.outputs[0], (low, max(low, high)))
