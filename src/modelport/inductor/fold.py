"""Batch normalisation folded into the convolution before it, in an exported graph.

Done on the graph and not on the modules, so that it does not matter how an architecture's modules are called and nested; and
before weights are rounded to half precision, in float64, so that folding costs no accuracy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

_CONVOLUTIONS = (
    torch.ops.aten.conv1d.default,
    torch.ops.aten.conv2d.default,
    torch.ops.aten.conv2d.padding,
    torch.ops.aten.conv3d.default,
)


def fold_normalization(module: GraphModule) -> int:
    """Fold what can be folded, in place, and take away the weights that are no longer read.

    Args:
        module: `torch.export.export(...).module()` of a network in evaluation mode, in float32.

    Returns:
        How many normalisations are gone. One that does not follow a convolution directly, or whose convolution is read by
        others as well, stays.
    """
    count = 0
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.batch_norm.default and _foldable(node):
            _fold(module, node, f"folded_{count}")
            count += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    _drop_unread(module)
    return count


def _foldable(norm: Node) -> bool:
    source = norm.args[0]
    return (
        isinstance(source, Node)
        and source.target in _CONVOLUTIONS
        and len(source.users) == 1
        and not norm.kwargs
        and not source.kwargs
        and norm.args[5] is False  # in training it would take the batch's own statistics
        and _is_constant(source.args[1])
        and all(value is None or _is_constant(value) for value in (*norm.args[1:5], *source.args[2:3]))
        and norm.args[3] is not None
    )


def _is_constant(value: Any) -> bool:
    return isinstance(value, Node) and value.op == "get_attr"


def _fold(module: GraphModule, norm: Node, name: str) -> None:
    convolution = norm.args[0]
    assert isinstance(convolution, Node)
    gain, offset, mean, variance = (_value(module, node) for node in norm.args[1:5])
    weight = _value(module, convolution.args[1])
    bias = _value(module, convolution.args[2] if len(convolution.args) > 2 else None)
    assert weight is not None
    assert mean is not None
    assert variance is not None
    scale = torch.rsqrt(variance + norm.args[7])
    scale = scale if gain is None else scale * gain
    shift = (0 if bias is None else bias) - mean
    folded = {
        "weight": weight * scale.reshape(-1, *[1] * (weight.dim() - 1)),
        "bias": shift * scale + (0 if offset is None else offset),
    }
    places = []
    with module.graph.inserting_before(convolution):
        for part, value in folded.items():
            module.register_parameter(f"{name}_{part}", torch.nn.Parameter(value.float(), requires_grad=False))
            places.append(module.graph.get_attr(f"{name}_{part}"))
    convolution.args = (convolution.args[0], *places, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    module.graph.erase_node(norm)


def _value(module: GraphModule, node: Any) -> torch.Tensor | None:
    """The constant in float64."""
    if node is None:
        return None
    owner, _, name = node.target.rpartition(".")
    return getattr(module.get_submodule(owner), name).detach().double()


def _drop_unread(module: GraphModule) -> None:
    """Without this they would be compiled into the package."""
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in read:
            owner, _, last = name.rpartition(".")
            delattr(module.get_submodule(owner), last)
