"""The table of passes, and what the base checks of every one of them."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnx_ir
from rewriting import build, kinds, refusal, rewrite, statistics, weights

from modelport.errors import EngineUnavailableError
from modelport.graph import passes
from modelport.graph.passes.base import BrokenRewriteError, Found, GraphPass

NAMES = ["fold_normalization", "simplify", "split_convolutions", "sum_concat_convolution", "merge_groups"]
LABELS = [*NAMES[:-1], "merge_groups:8", "merge_groups:16", "merge_groups:32"]


def everything(opset: int = 17, ir_version: int = 8) -> onnx.ModelProto:
    """A graph in which every pass finds something."""
    nodes = [
        ("Conv", ["image", "stem"], ["s"], {}),
        ("BatchNormalization", ["s", "scale", "offset", "mean", "variance"], ["n"], {}),
        ("Identity", ["n"], ["i"], {}),
        ("Conv", ["i", "grouped"], ["g"], {"group": 8, "pads": [1, 1, 1, 1]}),
        ("Relu", ["g"], ["r"], {}),
        ("Conv", ["r", "first"], ["f"], {}),
        ("Split", ["f"], ["a", "b"], {"axis": 1}),
        ("Concat", ["b", "a"], ["c"], {"axis": 1}),
        ("Conv", ["c", "last"], ["out"], {}),
    ]
    constants = statistics(32) | {
        "stem": weights(32, 3, 1, 1),
        "grouped": weights(32, 4, 3, 3),
        "first": weights(8, 32, 1, 1),
        "last": weights(5, 8, 1, 1),
    }
    model = build(nodes, constants, opset=opset)
    model.ir_version = ir_version
    return model


def test_the_table():
    assert passes.names() == NAMES
    assert [choice.graph_pass.label for choice in passes.select()] == LABELS
    assert not any(choice.asked for choice in passes.select())
    assert all(choice.graph_pass.summary for choice in passes.select())


def test_choosing_by_name_keeps_the_tables_order():
    chosen = passes.select(["merge_groups:24", "simplify", "simplify"])

    assert [(choice.graph_pass.label, choice.asked) for choice in chosen] == [
        ("simplify", True),
        ("merge_groups:24", True),
    ]
    assert [choice.asked for choice in passes.select(["merge_groups"])] == [False] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("split_convolution", "no pass is called 'split_convolution'; did you mean 'split_convolutions'?"),
        ("xyz", "no pass is called 'xyz'; there are: fold_normalization, simplify, "),
        ("simplify:2", "pass 'simplify' takes nothing behind a colon, got 'simplify:2'"),
        (
            "merge_groups:1",
            "pass 'merge_groups' takes a width of 2 or more, such as merge_groups:16; got 'merge_groups:1'",
        ),
        ("merge_groups:", "takes a width of 2 or more"),
    ],
)
def test_a_wrong_name(name, message):
    with pytest.raises(ValueError) as caught:
        passes.select([name])
    assert message in str(caught.value)


@pytest.mark.parametrize("library", ["onnx_ir", "onnxscript"])
def test_a_missing_library_names_the_extra(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(EngineUnavailableError, match=r"rewriting graphs needs .*: pip install 'modelport\[optimize\]'"):
        passes.select()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("opset", [11, 17])
def test_every_pass_is_equal_deterministic_and_keeps_what_others_rely_on(label, opset):
    model = everything(opset)
    (choice,) = passes.select([label])

    found = rewrite(choice.graph_pass, model)

    assert choice.graph_pass.apply(model).model.SerializeToString() == found.model.SerializeToString()
    assert found.model.graph.input == model.graph.input
    assert found.model.graph.output == model.graph.output
    assert list(found.model.metadata_props) == list(model.metadata_props)
    assert [entry.version for entry in found.model.opset_import] == [entry.version for entry in model.opset_import]
    assert found.model.ir_version == model.ir_version


def test_one_after_another():
    model = everything()
    for choice in passes.select():
        model = rewrite(choice.graph_pass, model).model

    assert kinds(model) == {"Conv": 6, "Add": 1, "Relu": 1}


def test_weights_listed_as_inputs():
    """As ONNX before IR 4 had to."""
    model = everything(opset=8, ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(model)

    found = rewrite(passes.select(["split_convolutions"])[0].graph_pass, model)

    assert [value.name for value in found.model.graph.input] == ["image"]
    assert found.model.ir_version == 4


@pytest.mark.parametrize("label", LABELS)
def test_an_opset_without_broadcasting(label):
    nodes = [("Relu", ["image"], ["out"], {})]

    reason = refusal(passes.select([label])[0].graph_pass, build(nodes, {}, opset=6))

    assert reason == "needs opset 7 or later, the file has 6"


def test_an_output_whose_shape_is_not_declared_stays_so():
    """Shape inference would fill it in."""
    found = rewrite(passes.select(["fold_normalization"])[0].graph_pass, everything())

    assert [dim.WhichOneof("value") for dim in found.model.graph.output[0].type.tensor_type.shape.dim] == [None] * 4


class Breaks(GraphPass):
    """Breaks one promise."""

    name = summary = nothing = "breaks"
    rule = None

    def __init__(self, how: str) -> None:
        self._how = how

    def _rewrite(self, model: onnx_ir.Model) -> Found:
        graph = model.graph
        if self._how == "inputs":
            graph.inputs[0].name = "picture"
        if self._how == "outputs":
            graph.outputs[0].name = "result"
        if self._how == "metadata":
            model.metadata_props.clear()
        if self._how == "opset":
            graph.opset_imports[""] = 18
        if self._how == "valid":
            graph.append(onnx_ir.Node("", "Relu", [onnx_ir.Value(name="nowhere")], name="lost"))
            graph.outputs.append(graph[-1].outputs[0])
            graph[-1].outputs[0].name = "lost"
        return Found(1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("inputs", "breaks changed the graph's inputs"),
        ("outputs", "breaks changed the graph's outputs"),
        ("metadata", "breaks changed the graph's metadata"),
        ("opset", "breaks changed the graph's opset"),
        ("valid", "breaks made a graph that is not valid: "),
    ],
)
def test_a_pass_that_breaks_a_promise(how, message):
    with pytest.raises(BrokenRewriteError, match=message):
        Breaks(how).apply(everything())


def test_operators_are_counted_without_constants():
    nodes = [
        ("Constant", [], ["c"], {"value": onnx.numpy_helper.from_array(np.float32(1))}),
        ("Add", ["image", "c"], ["out"], {}),
    ]

    assert kinds(build(nodes, {})) == {"Add": 1}
