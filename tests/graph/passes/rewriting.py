"""Small graphs to rewrite, and the proof that a rewritten graph answers what it answered before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from modelport.graph.passes.base import DoesNotApply, GraphPass, Rewrite, operators

SHAPE = (3, 9, 7)  # height and width differ from one another and from all numbers of channels below
Node = tuple[str, list[str], list[str], dict[str, object]]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Random float32 numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def statistics(channels: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Scale, bias, mean and variance of a BatchNormalization."""
    rng = np.random.default_rng([seed, channels])
    names = ("scale", "offset", "mean", "variance")
    return {name: rng.uniform(0.5, 2, channels).astype(np.float32) for name in names}


def build(
    nodes: Sequence[Node],
    constants: dict[str, np.ndarray],
    *,
    outputs: Sequence[str] = ("out",),
    opset: int = 17,
    channels: int = SHAPE[0],
    rank: int = 4,
) -> onnx.ModelProto:
    """A graph that reads `image`, N x channels x 9 x 7. Each node is (type, inputs, outputs, attributes).

    Args:
        nodes, constants: what it computes.
        outputs: names of its outputs, which have `rank` axes.
        opset: of the default operator set.
        channels: of `image`.
        rank: of the outputs.
    """
    made = [
        helper.make_node(kind, inputs, outs, name=f"{kind}_{number}", **attributes)
        for number, (kind, inputs, outs, attributes) in enumerate(nodes)
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, *SHAPE[1:]])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in outputs]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(made, "small", [image], results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.metadata_props.add(key="kept", value="yes")
    onnx.checker.check_model(model)
    return model


def answers(model: onnx.ModelProto, batch: int) -> list[np.ndarray]:
    """All outputs for a random batch, computed operator by operator."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return session.run(None, {model.graph.input[0].name: weights(batch, *shape, seed=9)})


def rewrite(graph_pass: GraphPass, model: onnx.ModelProto, *, tolerance: float = 1e-5) -> Rewrite:
    """Apply a pass that must apply, and hold its answers against the old ones at two batch sizes."""
    before = model.SerializeToString()
    found = graph_pass.apply(model)
    assert isinstance(found, Rewrite), found
    assert model.SerializeToString() == before, "the old graph is not to be touched"
    for batch in (1, 4):
        for ours, theirs in zip(answers(found.model, batch), answers(model, batch), strict=True):
            assert ours.shape == theirs.shape
            assert np.ptp(theirs) > 0.01 * np.abs(theirs).max()
            assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
    return found


def refusal(graph_pass: GraphPass, model: onnx.ModelProto) -> str:
    """Why a pass does not apply."""
    found = graph_pass.apply(model)
    assert isinstance(found, DoesNotApply), found
    return found.reason


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Operators by type."""
    return operators(model)
