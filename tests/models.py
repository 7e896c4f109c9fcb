"""Tiny ONNX classifiers built in code, with what they must answer computed in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelport.graph.classifier import SPEC_KEY
from modelport.spec import ModelSpec, Preprocess

SIZE = (3, 16, 12)  # height and width differ, so that swapping them cannot go unnoticed
CLASSES = 5
PREPROCESS = Preprocess(input_size=SIZE)
SPEC = ModelSpec(arch="tiny", num_classes=CLASSES, preprocess=PREPROCESS)
OPSET = 17
Dim = int | str | None

_RNG = np.random.default_rng(7)
KERNEL = _RNG.standard_normal((8, 3, 3, 3)).astype(np.float32) / 4
BIAS = _RNG.standard_normal(8).astype(np.float32)
WEIGHT = _RNG.standard_normal((CLASSES, 8)).astype(np.float32)
OFFSET = _RNG.standard_normal(CLASSES).astype(np.float32)
WEIGHTS = {"kernel": KERNEL, "bias": BIAS, "weight": WEIGHT, "offset": OFFSET}


def images(count: int, seed: int = 0) -> np.ndarray:
    """Float32 images of the tiny classifier's size, N x 3 x 16 x 12."""
    return np.random.default_rng(seed).standard_normal((count, *SIZE), dtype=np.float32)


def expected_scores(batch: np.ndarray) -> np.ndarray:
    """What `classifier` answers: 3x3 convolution (padding 1), ReLU, global average, linear; in float64."""
    padded = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    features = np.einsum("nchwij,ocij->nohw", windows, KERNEL.astype(np.float64)) + BIAS[:, None, None]
    return np.maximum(features, 0).mean(axis=(2, 3)) @ WEIGHT.T.astype(np.float64) + OFFSET


def null_scores(batch: np.ndarray, classes: int = CLASSES) -> np.ndarray:
    """What the null engine documents: the image's mean times the class's number, from 1."""
    return batch.astype(np.float64).mean(axis=(1, 2, 3))[:, None] * np.arange(1, classes + 1)


def classifier(
    *,
    batch: Dim = "N",
    height: Dim = SIZE[1],
    width: Dim = SIZE[2],
    classes: Dim = CLASSES,
    spec: ModelSpec | str | None = SPEC,
    weights_as_inputs: bool = False,
) -> onnx.ModelProto:
    """The classifier of `expected_scores`. `None` leaves a dimension unnamed, a name makes it dynamic.

    Args:
        batch, height, width: of the declared input.
        classes: declared width of the output.
        spec: metadata; text is written as it is, None leaves it out.
        weights_as_inputs: list the weights among the graph's inputs too, as ONNX before IR 4 had to.
    """
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "offset"], ["scores"], transB=1),
    ]
    inputs = [tensor("image", [batch, 3, height, width])]
    if weights_as_inputs:
        inputs += [tensor(name, list(value.shape)) for name, value in WEIGHTS.items()]
    weights = [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()]
    model = _model(helper.make_graph(nodes, "tiny", inputs, [tensor("scores", [batch, classes])], weights))
    if spec is not None:
        text = spec if isinstance(spec, str) else spec.model_dump_json()
        model.metadata_props.add(key=SPEC_KEY, value=text)
    return model


def shaped(
    input_shape: list[Dim] | None,
    output_shape: list[Dim] | None = (None, CLASSES),
    *,
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph with these declared inputs and outputs; it is there to be refused, and computes nothing of use."""
    nodes = [helper.make_node("Cast", ["image"], ["scores"], to=output_type)]
    inputs = [helper.make_tensor_value_info("image", input_type, input_shape)]
    outputs = [helper.make_tensor_value_info("scores", output_type, output_shape)]
    return _model(helper.make_graph(nodes, "shaped", inputs, outputs))


def two_inputs() -> onnx.ModelProto:
    """A graph that takes an image and a mask."""
    nodes = [helper.make_node("Mul", ["image", "mask"], ["product"]), *_pooling("product")]
    shape = ["N", *SIZE]
    inputs = [tensor("image", shape), tensor("mask", shape)]
    return _model(helper.make_graph(nodes, "two-inputs", inputs, [tensor("scores", ["N", 3])]))


def two_outputs() -> onnx.ModelProto:
    """A graph that answers scores and their negation."""
    nodes = [*_pooling("image"), helper.make_node("Neg", ["scores"], ["negated"])]
    outputs = [tensor("scores", ["N", 3]), tensor("negated", ["N", 3])]
    return _model(helper.make_graph(nodes, "two-outputs", [tensor("image", ["N", *SIZE])], outputs))


def foreign_operator() -> onnx.ModelProto:
    """A valid graph with an operator of a domain that no runtime knows."""
    nodes = [helper.make_node("Teleport", ["image"], ["away"], domain="nowhere"), *_pooling("away")]
    graph = helper.make_graph(nodes, "foreign", [tensor("image", ["N", *SIZE])], [tensor("scores", ["N", 3])])
    model = _model(graph)
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    return model


def unknown_operator() -> onnx.ModelProto:
    """A graph with an operator that ONNX does not define."""
    nodes = [helper.make_node("Teleport", ["image"], ["away"]), *_pooling("away")]
    graph = helper.make_graph(nodes, "unknown", [tensor("image", ["N", *SIZE])], [tensor("scores", ["N", 3])])
    return _model(graph)


def dangling_input() -> onnx.ModelProto:
    """A graph whose first operator reads a tensor that nothing makes."""
    graph = helper.make_graph(
        _pooling("nothing"), "dangling", [tensor("image", ["N", *SIZE])], [tensor("scores", ["N", 3])]
    )
    return _model(graph)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write the model into one file."""
    path.write_bytes(model.SerializeToString())
    return path


def save_with_external_data(model: onnx.ModelProto, path: Path, location: str) -> Path:
    """Write the model with its kernel in another file at `location`, relative to the model's directory."""
    kernel = next(weight for weight in model.graph.initializer if weight.name == "kernel")
    target = path.parent / location
    target.write_bytes(kernel.raw_data)
    onnx.external_data_helper.set_external_data(kernel, location=location)
    kernel.ClearField("raw_data")
    return save(model, path)


def tensor(name: str, shape: list[Dim]) -> onnx.ValueInfoProto:
    """A declared float32 tensor."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _pooling(source: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"], axis=1),
    ]


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
