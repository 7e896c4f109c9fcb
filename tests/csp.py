"""A small network with one cross-stage partial block: what it holds, by name, is what profiles and analyses must find."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
from onnx import helper, numpy_helper

from modelport.graph.classifier import SPEC_KEY
from modelport.spec import ModelSpec, Preprocess

SIZE = (3, 32, 32)
CLASSES = 5
PREPROCESS = Preprocess(input_size=SIZE, crop_pct=1.0)
SPEC = ModelSpec(arch="csp", num_classes=CLASSES, preprocess=PREPROCESS)
NODES = (
    *("Conv_0", "LeakyRelu_1", "Conv_2", "LeakyRelu_3", "Split_4", "Conv_5", "LeakyRelu_6", "Conv_7", "LeakyRelu_8"),
    *("Conv_9", "Add_10", "Concat_11", "Conv_12", "LeakyRelu_13", "GlobalAveragePool_14", "Flatten_15", "Gemm_16"),
)
CONVOLUTIONS = tuple(name for name in NODES if name.startswith("Conv_"))
# Multiplications and additions of each convolution and of the matrix product, for one image.
FLOPS = {
    "Conv_0": 2 * 32 * 32 * 32 * 3 * 9,
    "Conv_2": 2 * 32 * 32 * 64 * 32,
    "Conv_5": 2 * 32 * 32 * 32 * 32,
    "Conv_7": 2 * 32 * 32 * 32 * 4 * 9,
    "Conv_9": 2 * 32 * 32 * 32 * 32,
    "Conv_12": 2 * 32 * 32 * 64 * 64,
    "Gemm_16": 2 * 64 * CLASSES,
}


def classifier() -> onnx.ModelProto:
    """`Conv → LeakyRelu → Split`, a grouped convolution in one branch, `Concat → Conv 1x1`; every node has a name."""
    rng = np.random.default_rng(3)
    weights: dict[str, np.ndarray] = {"halves": np.array([32, 32], np.int64)}
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, reads: list[str], **attributes: object) -> str:
        name = f"{kind}_{len(nodes)}"
        outputs = [name.lower()] if kind != "Split" else ["left", "right"]
        nodes.append(helper.make_node(kind, reads, outputs, name=name, **attributes))
        return outputs[-1]

    def conv(source: str, shape: tuple[int, int, int, int], group: int = 1) -> str:
        name = f"weight_{len(nodes)}"
        weights[name] = rng.standard_normal(shape).astype(np.float32) / 8
        weights[f"{name}_bias"] = rng.standard_normal(shape[0]).astype(np.float32)
        return add("Conv", [source, name, f"{name}_bias"], pads=[shape[2] // 2] * 4, group=group)

    def activated(source: str) -> str:
        return add("LeakyRelu", [source], alpha=0.01)

    right = add("Split", [activated(conv(activated(conv("image", (32, 3, 3, 3))), (64, 32, 1, 1))), "halves"], axis=1)
    branch = activated(conv(activated(conv(right, (32, 32, 1, 1))), (32, 4, 3, 3), group=8))
    added = add("Add", [conv(branch, (32, 32, 1, 1)), right])
    joined = activated(conv(add("Concat", ["left", added], axis=1), (64, 64, 1, 1)))
    weights["head"], weights["head_bias"] = (
        rng.standard_normal((CLASSES, 64)).astype(np.float32),
        np.zeros(CLASSES, np.float32),
    )
    flat = add("Flatten", [add("GlobalAveragePool", [joined])], axis=1)
    add("Gemm", [flat, "head", "head_bias"], transB=1)
    assert tuple(node.name for node in nodes) == NODES
    ends = models.tensor("image", ["N", *SIZE]), models.tensor("gemm_16", ["N", CLASSES])
    graph = helper.make_graph(
        nodes, "csp", ends[:1], ends[1:], [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=SPEC_KEY, value=SPEC.model_dump_json())
    onnx.checker.check_model(model)
    return model


def save(path: Path) -> Path:
    """Write it as a file."""
    return models.save(classifier(), path)
