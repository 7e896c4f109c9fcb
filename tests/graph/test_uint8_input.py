"""uint8 input: the rewritten classifier answers pixels as the float one answers what the decoder makes of them."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.data.decode import Decoder
from modelport.errors import FormatError
from modelport.graph import ClassifierGraph, read_classifier
from modelport.graph.uint8_input import take_uint8
from modelport.spec import Preprocess

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

SIZE = models.SIZE[1:]
CASES = {
    "RGB": Preprocess(input_size=models.SIZE),
    "BGR": Preprocess(input_size=models.SIZE, color_order="BGR", mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4)),
    "only scaled": Preprocess(input_size=models.SIZE, mean=(0, 0, 0), std=(1, 1, 1)),
    "black is far from zero": Preprocess(input_size=models.SIZE, mean=(5, 5, 5), std=(0.01, 0.01, 0.01)),
    "grey": Preprocess(input_size=(1, *SIZE), mean=(0.1307,), std=(0.3081,)),
}


def padded_classifier(channels: int, opset: int = 17) -> onnx.ModelProto:
    """A convolution with padding, so that a shift folded into it would be seen; as many input channels as are asked for."""
    rng = np.random.default_rng(3)
    kernel = numpy_helper.from_array(rng.standard_normal((4, channels, 3, 3)).astype(np.float32), "kernel")
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"], axis=1),
    ]
    inputs, outputs = [models.tensor("image", ["N", channels, *SIZE])], [models.tensor("scores", ["N", 4])]
    graph = helper.make_graph(nodes, "padded", inputs, outputs, [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)


def both(path: Path, preprocess: Preprocess, folder: Path, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Scores of random pixels: by the rewritten file, and by the original from the decoder's float path."""
    changed = take_uint8(read_classifier(path), preprocess, folder / "uint8.onnx")
    pixels = np.random.default_rng(1).integers(0, 256, (count, *SIZE, preprocess.input_size[0]), dtype=np.uint8)
    floats = np.empty((count, *preprocess.input_size), np.float32)
    for row in range(count):
        Decoder(preprocess).normalize(pixels[row], floats[row])
    return run(changed.path, pixels), run(path, floats)


def run(path: Path, batch: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": batch})[0]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture
def graph(tiny_onnx) -> ClassifierGraph:
    return read_classifier(tiny_onnx)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 21])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_float_path(tmp_path, case, opset):
    preprocess = CASES[case]
    path = models.save(padded_classifier(preprocess.input_size[0], opset), tmp_path / "padded.onnx")

    ours, theirs = both(path, preprocess, tmp_path)

    assert np.ptp(theirs) > 0.01
    assert relative(ours, theirs) < 1e-5


def test_the_tiny_classifier_answers_what_numpy_says(tiny_onnx, tmp_path):
    ours, theirs = both(tiny_onnx, models.PREPROCESS, tmp_path)
    assert relative(ours, theirs) < 1e-5


def test_without_the_swap_bgr_would_differ(tiny_onnx, tmp_path):
    swapped, _ = both(tiny_onnx, CASES["BGR"], tmp_path)
    plain, _ = both(tiny_onnx, CASES["BGR"].model_copy(update={"color_order": "RGB"}), tmp_path)
    assert relative(swapped, plain) > 1e-3


def test_weights_listed_as_inputs(tmp_path):
    """As ONNX before IR 4 had to: what the pass adds must not have to be listed as well."""
    model = models.classifier(weights_as_inputs=True)
    model.ir_version = 3
    path = models.save(model, tmp_path / "old.onnx")

    ours, theirs = both(path, models.PREPROCESS, tmp_path)

    assert relative(ours, theirs) < 1e-5
    onnx.checker.check_model(str(tmp_path / "uint8.onnx"))


def test_an_input_that_a_subgraph_reads(tmp_path):
    branch = {
        name: helper.make_graph([helper.make_node(kind, ["image"], [name])], name, [], [models.tensor(name, ["N", *models.SIZE])])
        for name, kind in (("then", "Identity"), ("else", "Neg"))
    }  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch["then"], else_branch=branch["else"]),
        helper.make_node("GlobalAveragePool", ["chosen"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["scores"], axis=1),
    ]
    inputs, outputs = [models.tensor("image", ["N", *models.SIZE])], [models.tensor("scores", ["N", 3])]
    model = helper.make_model(helper.make_graph(nodes, "branches", inputs, outputs), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 17)])  # fmt: skip
    path = models.save(model, tmp_path / "branches.onnx")

    ours, theirs = both(path, models.PREPROCESS, tmp_path)

    assert relative(ours, theirs) < 1e-5


def test_name_batch_output_and_metadata_stay(graph, tmp_path):
    changed = take_uint8(graph, models.PREPROCESS, tmp_path / "uint8.onnx")
    before, after = onnx.load(graph.path), onnx.load(changed.path)

    (value,) = after.graph.input
    dims = value.type.tensor_type.shape.dim
    assert (value.name, value.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert dims[0].dim_param == "N"
    assert [dim.dim_value for dim in dims[1:]] == [*SIZE, 3]
    assert after.graph.output == before.graph.output
    assert after.metadata_props == before.metadata_props
    assert after.opset_import == before.opset_import
    onnx.checker.check_model(after, full_check=True)


def test_a_fixed_batch_stays_fixed(tmp_path):
    path = models.save(models.classifier(batch=4), tmp_path / "four.onnx")
    changed = take_uint8(read_classifier(path), models.PREPROCESS, tmp_path / "uint8.onnx")
    assert onnx.load(changed.path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_it_is_still_the_same_classifier(graph, tmp_path):
    changed = take_uint8(graph, models.PREPROCESS, tmp_path / "uint8.onnx")
    assert changed.path == tmp_path / "uint8.onnx"
    assert (changed.sha256, changed.spec, changed.num_classes) == (graph.sha256, graph.spec, graph.num_classes)


def test_weights_in_another_file_are_taken_in(tmp_path):
    path = models.save_with_external_data(models.classifier(), tmp_path / "split.onnx", "kernel.bin")
    (tmp_path / "elsewhere").mkdir()

    ours, theirs = both(path, models.PREPROCESS, tmp_path / "elsewhere")

    assert relative(ours, theirs) < 1e-5


def test_a_file_that_takes_uint8_already_is_refused(graph, tmp_path):
    changed = take_uint8(graph, models.PREPROCESS, tmp_path / "uint8.onnx")
    expected = r"uint8\.onnx: input 'image' is uint8; float32 is accepted: give the float32 file, --input uint8 makes it take pixels$"
    with pytest.raises(FormatError, match=expected):
        read_classifier(changed.path)


def test_an_opset_without_broadcasting_is_refused(tmp_path):
    path = models.save(padded_classifier(3, 6), tmp_path / "old.onnx")
    with pytest.raises(
        FormatError, match=r"old\.onnx: has opset 6, uint8 input needs 7 or later: export it with --opset 11"
    ):
        take_uint8(read_classifier(path), models.PREPROCESS, tmp_path / "uint8.onnx")


def test_preprocessing_of_another_number_of_channels_is_refused(graph, tmp_path):
    with pytest.raises(FormatError, match=r"tiny\.onnx: takes 3 channels, the preprocessing prepares 1; say how"):
        take_uint8(graph, CASES["grey"], tmp_path / "uint8.onnx")
    assert not (tmp_path / "uint8.onnx").exists()
