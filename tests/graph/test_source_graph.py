"""The weightless copy of the graph in an offline model, and which of its nodes an operator stands for."""

from __future__ import annotations

import csp
import models
import onnx
import pytest

from modelport.errors import FormatError
from modelport.graph.source import SOURCE_FILE, SourceGraph, SourceNode, write_source


@pytest.fixture(scope="module")
def graph(csp_onnx):
    return SourceGraph.read(csp_onnx)


def names(nodes):
    return [node.name for node in nodes]


def test_the_copy_has_every_node_and_no_weight(csp_onnx, tmp_path):
    assert write_source(csp_onnx, tmp_path) == SOURCE_FILE

    copy, original = onnx.load(tmp_path / SOURCE_FILE), onnx.load(csp_onnx)
    assert list(copy.graph.node) == list(original.graph.node)
    sizes = {tensor.name: len(tensor.raw_data) for tensor in copy.graph.initializer}
    assert sizes["weight_0"] == 0
    assert sizes["halves"] == 16  # what the Split needs to be understood stays
    assert [tensor.dims for tensor in copy.graph.initializer] == [tensor.dims for tensor in original.graph.initializer]
    assert (tmp_path / SOURCE_FILE).stat().st_size < csp_onnx.stat().st_size / 3


def test_weights_in_another_file_are_not_needed(tmp_path):
    path = models.save_with_external_data(models.classifier(), tmp_path / "m.onnx", "kernel.bin")
    (tmp_path / "kernel.bin").unlink()
    (tmp_path / "copy").mkdir()

    write_source(path, tmp_path / "copy")

    assert names(SourceGraph.read(tmp_path / "copy" / SOURCE_FILE).find(["features"])) == ["features"]


def test_a_node_without_a_name_is_known_by_its_output(tiny_onnx):
    graph = SourceGraph.read(tiny_onnx)

    assert names(graph.nodes.values()) == ["features", "positive", "pooled", "flat", "scores"]
    assert graph.nodes["positive"] == SourceNode("positive", "Relu", ("features",), ("positive",))


def test_nodes_are_found_by_their_name_or_their_result(graph):
    assert names(graph.find(["split_4", "leakyrelu_3", "Conv_2", "left", "nobody"])) == [
        "Conv_2",
        "LeakyRelu_3",
        "Split_4",
    ]


def test_a_fused_operator_stands_for_all_between_what_it_reads_and_makes(graph):
    known = frozenset({"image", "leakyrelu_1", "leakyrelu_3", "left", "right", "conv_9", "add_10"})

    assert names(graph.between(["leakyrelu_3"], known)) == ["Conv_2", "LeakyRelu_3"]
    assert names(graph.between(["leakyrelu_1"], known)) == ["Conv_0", "LeakyRelu_1"]
    assert names(graph.between(["left", "right"], known)) == ["Split_4"]
    assert names(graph.between(["image"], known)) == []


def test_names_put_together_are_taken_apart(graph):
    assert names(graph.named_in("Conv_12LeakyRelu_13")) == ["Conv_12", "LeakyRelu_13"]  # and not Conv_1, LeakyRelu_1
    assert names(graph.named_in("trans_TransData_7")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"PK\x03\x04 no graph", "is not an ONNX file"), (b"", "is not an ONNX file")],
)
def test_what_is_no_graph_is_refused(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(FormatError, match=rf"x\.onnx: {message}"):
        SourceGraph.read(path)


def test_the_network_is_what_the_tests_take_it_for():
    assert [node.name for node in csp.classifier().graph.node] == list(csp.NODES)
