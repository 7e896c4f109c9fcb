"""Networks, their cuts, and what two of them have in common."""

from __future__ import annotations

from pathlib import Path

import csp
import faults
import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.comparison.cuts import Cuts, match, unfused
from modelport.comparison.network import Network
from modelport.engines import load
from modelport.errors import FormatError
from modelport.graph import read_classifier
from modelport.spec import Precision

IN_ORDER = (
    *(
        "conv_0",
        "leakyrelu_1",
        "conv_2",
        "leakyrelu_3",
        "left",
        "right",
        "conv_5",
        "leakyrelu_6",
        "conv_7",
        "leakyrelu_8",
    ),
    *("conv_9", "add_10", "concat_11", "conv_12", "leakyrelu_13", "globalaveragepool_14", "flatten_15", "gemm_16"),
)


def network(path: Path, folder: Path) -> Network:
    graph = read_classifier(path)
    assert graph.spec is not None
    return Network.read(graph, graph.spec.preprocess.input_size, folder)


@pytest.fixture
def read(csp_onnx: Path, tmp_path: Path) -> Network:
    return network(csp_onnx, tmp_path)


def test_a_network_knows_what_makes_and_what_reads_each_tensor(read: Network) -> None:
    assert (read.input, read.output) == ("image", "gemm_16")
    assert tuple(read.makers) == IN_ORDER
    assert [reader.name for reader in read.readers["right"]] == ["Conv_5", "Add_10"]
    assert read.makers["add_10"].reads == ("conv_9", "right")
    assert read.shapes["left"] == (None, 32, 32, 32)


def test_the_weights_are_put_aside_and_still_known(read: Network, tmp_path: Path) -> None:
    assert len(read.tapped([], 1).SerializeToString()) < 10_000
    assert next(tmp_path.glob("weights-*")).stat().st_size > 30_000
    assert read.weights(read.makers["conv_0"])[1].shape == (32, 3, 3, 3)


def test_a_cut_holds_every_branch_that_is_still_read(read: Network) -> None:
    cuts = Cuts(read, IN_ORDER)
    after = {name: cuts.after(place) for place, name in enumerate(IN_ORDER, start=1)}
    assert after["leakyrelu_3"] == ("leakyrelu_3",)
    assert after["right"] == ("left", "right")
    assert after["leakyrelu_8"] == ("left", "right", "leakyrelu_8")
    assert after["concat_11"] == ("concat_11",)
    assert after["gemm_16"] == ("gemm_16",)
    assert cuts.after(0) == ()


def test_parents_reach_across_tensors_that_are_not_compared(read: Network) -> None:
    cuts = Cuts(read, ("leakyrelu_3", "leakyrelu_8", "gemm_16"))
    assert cuts.parents == {
        "leakyrelu_3": ("image",),
        "leakyrelu_8": ("leakyrelu_3",),
        "gemm_16": ("leakyrelu_3", "leakyrelu_8"),
    }
    assert [operator.name for operator in cuts.operators("leakyrelu_8")] == [
        *("Split_4", "Conv_5", "LeakyRelu_6", "Conv_7", "LeakyRelu_8")
    ]


def test_tensors_inside_a_fusion_are_left_alone(read: Network) -> None:
    kept = unfused(read, IN_ORDER, read)
    assert {"conv_0", "conv_2", "conv_5", "conv_7", "conv_9", "conv_12"}.isdisjoint(kept)
    assert {"leakyrelu_1", "left", "right", "add_10", "concat_11", "gemm_16"} <= set(kept)


def test_a_region_computes_what_the_whole_does(read: Network, tmp_path: Path, require_engine) -> None:
    require_engine("onnxruntime")
    engine = load("onnxruntime")
    image = np.random.default_rng(0).standard_normal((2, *csp.SIZE), dtype=np.float32)
    names = ["left", "leakyrelu_3", "conv_9", "right", "concat_11"]
    onnx.save(read.tapped(names, 2), tmp_path / "tapped.onnx")
    whole = engine.tap(tmp_path / "tapped.onnx", Precision.F32, plain=True)({"image": image})
    assert set(whole) == {*names, "gemm_16"}
    onnx.save(read.region(("leakyrelu_3", "conv_9"), "concat_11"), tmp_path / "region.onnx")
    region = engine.tap(tmp_path / "region.onnx", Precision.F32, plain=True)
    found = region({"leakyrelu_3": whole["leakyrelu_3"], "conv_9": whole["conv_9"]})
    assert np.array_equal(found["concat_11"], whole["concat_11"])


def test_what_a_subgraph_reads_is_read_by_its_operator(tmp_path: Path) -> None:
    scores = models.tensor("inner", ["N", 3])
    branches = [
        helper.make_graph([helper.make_node(kind, ["flat"], ["inner"])], kind, [], [scores]) for kind in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("If", ["yes"], ["scores"], then_branch=branches[0], else_branch=branches[1]),
    ]
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        nodes, "if", [models.tensor("image", ["N", *models.SIZE])], [models.tensor("scores", ["N", 3])], [yes]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", models.OPSET)], ir_version=8)
    read = Network.read(read_classifier(models.save(model, tmp_path / "if.onnx")), models.SIZE, tmp_path)
    assert read.makers["scores"].reads == ("flat",)


def test_the_scores_match_whatever_they_are_called(csp_onnx: Path, read: Network, tmp_path: Path) -> None:
    model = onnx.load(csp_onnx)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "logits"
    other = network(models.save(model, tmp_path / "other.onnx"), tmp_path)
    common = match(read, other, read.shapes, "A and B")
    assert common.names == IN_ORDER
    assert common.b_names["gemm_16"] == "logits"


def test_names_that_do_not_match_are_told_with_examples(csp_onnx: Path, read: Network, tmp_path: Path) -> None:
    other = network(faults.rename(csp_onnx, tmp_path / "other.onnx", "_x"), tmp_path)
    message = (
        r"A and B: no tensor name in common besides input and scores \(A has 18, such as 'conv_0'; B has 18, such as "
        r"'conv_0_x'\), so layers cannot be matched: two different models, or two exports: .* with the same opset"
    )
    with pytest.raises(FormatError, match=message):
        match(read, other, read.shapes, "A and B")


def test_some_names_in_common_are_enough(csp_onnx: Path, read: Network, tmp_path: Path) -> None:
    other = network(
        faults.rename(csp_onnx, tmp_path / "other.onnx", "_x", but=("leakyrelu_3", "leakyrelu_8")), tmp_path
    )
    assert match(read, other, read.shapes, "A and B").names == ("leakyrelu_3", "leakyrelu_8", "gemm_16")


def test_the_same_names_with_other_shapes_are_two_models(read: Network) -> None:
    shapes = dict.fromkeys(read.shapes, (None, 7))
    with pytest.raises(
        FormatError, match=r"17 of 17 tensors of the same name have another shape .* two different models"
    ):
        match(read, read, shapes, "A and B")


def test_a_single_tensor_of_another_shape_is_left_out(read: Network) -> None:
    common = match(read, read, {**read.shapes, "conv_5": (None, 7)}, "A and B")
    assert "conv_5" not in common.names
    assert common.other_shape == ("conv_5",)
