"""fp16 emulation: each operator's result is rounded, and ONNX Runtime's optimiser does not undo it."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.errors import FormatError
from modelport.graph import read_classifier
from modelport.graph.fp16 import emulate_fp16

LEVELS = [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL]


def fp16(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def build(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, shape: tuple[int, ...] = (1, 1, 4)
) -> onnx.ModelProto:
    """A classifier: the nodes from `image` to `last`, then flattened into `scores`."""
    nodes = [*nodes, helper.make_node("Flatten", ["last"], ["scores"], axis=1)]
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(
        nodes, "t", [models.tensor("image", ["N", *shape])], [models.tensor("scores", ["N", None])], initializers
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def emulated(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, object]:
    source = models.save(model, folder / "source.onnx")
    found = emulate_fp16(read_classifier(source), folder / "fp16.onnx")
    onnx.checker.check_model(str(found.path), full_check=True)
    return onnx.load(found.path), found


def run(model: onnx.ModelProto, image: np.ndarray, level=LEVELS[1]) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = level
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def count(model: onnx.ModelProto, kind: str) -> int:
    return sum(node.op_type == kind for node in model.graph.node)


@pytest.mark.parametrize("level", LEVELS, ids=["unoptimised", "optimised"])
def test_every_step_is_rounded(tmp_path, level):
    """(image·w)·down + b, where each step needs more bits than fp16 has; NumPy says what each rounding leaves."""
    rng = np.random.default_rng(0)
    w, b = (rng.standard_normal((1, 1, 4)).astype(np.float32) * 3 for _ in range(2))
    nodes = [
        helper.make_node("Mul", ["image", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Mul", ["r", "a"], ["c"]),
        helper.make_node("Add", ["c", "b"], ["last"]),
    ]
    image = rng.standard_normal((5, 1, 1, 4)).astype(np.float32) * 7
    model, found = emulated(build(nodes, {"w": w, "b": b}), tmp_path)

    a = fp16(fp16(image) * fp16(w))
    expected = fp16(fp16(np.maximum(a, 0) * a) + fp16(b)).reshape(5, 4)

    assert (run(model, image, level) == expected).all()
    assert (expected != fp16((np.maximum(image * w, 0) * (image * w) + b).reshape(5, 4))).any()
    assert (found.weights, found.operators, found.overflows) == (2, 3, ())


@pytest.mark.parametrize("level", LEVELS, ids=["unoptimised", "optimised"])
def test_an_intermediate_beyond_65504_is_infinite(tmp_path, level):
    """Scaled back into range at once, so that only a rounding in between can lose it."""
    nodes = [
        helper.make_node("Mul", ["image", "up"], ["a"]),
        helper.make_node("Mul", ["a", "down"], ["last"]),
    ]
    weights = {"up": np.float32([1024]), "down": np.float32([1 / 1024])}
    image = np.float32([[[[1, 63, 64, -64]]]])
    model, _ = emulated(build(nodes, weights), tmp_path)

    assert run(model, image, level).tolist() == [[1, 63, np.inf, -np.inf]]


def test_the_image_itself_is_rounded(tmp_path):
    """2049 has twelve bits; Identity computes nothing that would be rounded."""
    model, found = emulated(build([helper.make_node("Identity", ["image"], ["last"])]), tmp_path)

    assert run(model, np.float32([[[[2049, 1, 1e-9, 1e6]]]])).tolist() == [[2048, 1, 0, np.inf]]
    assert found.operators == 0


def test_a_convolution_adds_up_in_f32(tmp_path):
    """2048 + 1 + 1 is 2050 if rounded once, and 2048 if fp16 did the adding."""
    nodes = [helper.make_node("Conv", ["image", "w"], ["last"])]
    model, _ = emulated(build(nodes, {"w": np.ones((1, 1, 1, 3), np.float32)}, (1, 1, 3)), tmp_path)

    assert run(model, np.float32([[[[2048, 1, 1]]]])).tolist() == [[2050]]


def test_the_optimised_graph_keeps_every_rounding(tmp_path):
    """The tiny classifier, whose convolution, bias and ReLU ONNX Runtime would fuse: what is saved still has all Casts."""
    model, found = emulated(models.classifier(), tmp_path)
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])

    assert found.operators == 3  # Conv, GlobalAveragePool, Gemm; ReLU and Flatten are exact
    assert count(onnx.load(tmp_path / "optimised.onnx"), "Cast") == count(model, "Cast") == 2 * (3 + 1)


def test_weights_are_rounded_and_what_they_cannot_hold_is_named(tmp_path):
    kernel = np.float32([0.1, 65504, -7e5, 1e-9]).reshape(1, 1, 4)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1e6]))),
        helper.make_node("Mul", ["image", "kernel"], ["a"]),
        helper.make_node("Add", ["a", "c"], ["last"]),
    ]
    model, found = emulated(build(nodes, {"kernel": kernel}), tmp_path)

    (stored,) = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert stored.dtype == np.float32
    assert stored.ravel().tolist() == [float(np.float16(0.1)), 65504, -np.inf, 0]
    assert found.weights == 2
    assert [str(overflow) for overflow in found.overflows] == ["kernel (largest 7e+05)", "c (largest 1e+06)"]


def test_infinities_of_the_model_itself_are_no_overflow(tmp_path):
    nodes = [helper.make_node("Max", ["image", "least"], ["last"])]
    _, found = emulated(build(nodes, {"least": np.float32([-np.inf])}), tmp_path)

    assert found.overflows == ()


def test_settings_are_left_alone(tmp_path):
    """Scales of 1.3334 mean 4 → 5 columns; rounded to fp16 they would be 1.333 and still be a weight in the count."""
    nodes = [
        helper.make_node("Resize", ["image", "", "scales"], ["big"], mode="nearest"),
        helper.make_node("Clip", ["big", "low", "high"], ["last"]),
    ]
    scales = np.float32([1, 1, 1, 1.3334])
    weights = {"scales": scales, "low": np.float32(-3.4e38), "high": np.float32(3.4e38)}
    model, found = emulated(build(nodes, weights), tmp_path)

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (stored["scales"] == scales).all()
    assert (found.weights, found.overflows) == (0, ())
    assert run(model, np.float32([[[[1, 2, 3, 4]]]])).shape == (1, 5)


def test_input_output_and_metadata_stay(tmp_path):
    source = models.save(models.classifier(), tmp_path / "source.onnx")
    before = source.read_bytes()
    graph = read_classifier(source)

    found = read_classifier(emulate_fp16(graph, tmp_path / "fp16.onnx").path)

    assert (found.input_name, found.output_name, found.spec) == (graph.input_name, graph.output_name, graph.spec)
    assert (found.num_classes, found.input_size, found.batch_size) == (graph.num_classes, graph.input_size, None)
    assert source.read_bytes() == before


def test_scores_are_near_those_in_f32_and_are_fp16_numbers(tmp_path):
    images = models.images(6)
    model, _ = emulated(models.classifier(), tmp_path)

    scores = run(model, images)

    assert np.allclose(scores, models.expected_scores(images), atol=5e-3)
    assert (scores == fp16(scores)).all()
    assert not np.allclose(scores, models.expected_scores(images), atol=1e-6)


def test_weights_in_another_file_are_rounded_too(tmp_path):
    source = models.save_with_external_data(models.classifier(), tmp_path / "source.onnx", "kernel.bin")
    found = emulate_fp16(read_classifier(source), tmp_path / "elsewhere" / "fp16.onnx")

    stored = {w.name: numpy_helper.to_array(w) for w in onnx.load(found.path).graph.initializer}
    assert (stored["kernel"] == fp16(models.KERNEL)).all()


def test_a_local_function_is_looked_into(tmp_path):
    body = [helper.make_node("Mul", ["x", "x"], ["y"]), helper.make_node("Sqrt", ["y"], ["z"])]
    model = build([helper.make_node("Twice", ["image"], ["last"], domain="mine")])
    model.functions.append(helper.make_function("mine", "Twice", ["x"], ["z"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("mine", 1))

    rounded, found = emulated(model, tmp_path)

    assert found.operators == 2
    assert run(rounded, np.float32([[[[1, 300, 2, 3]]]])).tolist() == [[1, np.inf, 2, 3]]


def test_a_subgraph_is_refused(tmp_path):
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Identity", ["image"], [name])], name, [], [models.tensor(name, ["N", 1, 1, 4])]
        )

    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["last"], name="fork", then_branch=branch("a"), else_branch=branch("b")),
    ]
    with pytest.raises(
        FormatError,
        match=r"source\.onnx: fp16 cannot be emulated: operator 'fork' \(If\) has a subgraph; export the model without",
    ):
        emulated(build(nodes), tmp_path)
    assert not (tmp_path / "fp16.onnx").exists()


def test_an_operator_of_unknown_result_is_refused(tmp_path):
    with pytest.raises(
        FormatError,
        match=r"operator 'away' \(nowhere\.Teleport\) makes 'away', whose type ONNX cannot infer; use the plain ONNX file",
    ):
        emulated(models.foreign_operator(), tmp_path)
