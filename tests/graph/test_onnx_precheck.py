"""Hostile ONNX files: refused in a line, before a runtime sees them."""

from __future__ import annotations

import os

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport import limits
from modelport.errors import FormatError, InferenceError
from modelport.graph.classifier import read_classifier
from modelport.graph.precheck import read_model
from modelport.offline import MANIFEST, OfflineModel


def weight(model: onnx.ModelProto, name: str = "kernel") -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def external(tmp_path, **entries: str):
    """The classifier with its kernel in `kernel.bin` beside it, and these entries for it."""
    model = models.classifier()
    kernel = weight(model)
    (tmp_path / "kernel.bin").write_bytes(kernel.raw_data)
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "kernel.bin"} | entries).items():
        kernel.external_data.add(key=key, value=value)
    return models.save(model, tmp_path / "model.onnx")


def test_good_files_pass(tmp_path, tiny_onnx):
    assert len(read_model(tiny_onnx).graph.node) == 5
    assert read_classifier(external(tmp_path, offset="0", length=str(models.KERNEL.nbytes))).num_classes == 5


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../kernel.bin"}, r"weight 'kernel' points to '\.\./kernel\.bin', outside the model's directory"),
        ({"location": "/etc/passwd"}, r"points to '/etc/passwd', outside"),
        ({"location": "a\0b"}, r"points to 'a\\\\x00b', outside"),
        ({"location": "link.bin"}, r"points to 'link\.bin', outside"),
        ({"offset": "-4"}, r"lies at -4 to 860 of 'kernel\.bin', which has 864 bytes"),
        ({"offset": "4", "length": "864"}, r"lies at 4 to 868 of 'kernel\.bin'"),
        ({"offset": "0", "length": str(1 << 62)}, r"lies at 0 to 4,611,686,018,427,387,904"),
        ({"offset": "0", "length": "100"}, r"has shape \[8, 3, 3, 3\], which takes 864 bytes, and holds 100"),
        ({"offset": "many"}, r"has an offset or length in 'kernel\.bin' that is no number"),
    ],
)
def test_external_data_stays_in_its_directory_and_in_its_file(tmp_path, entries, message):
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(FormatError, match=message) as caught:
        read_model(external(tmp_path, **entries))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["constant", "subgraph", "sparse", "function"])
def test_external_data_is_found_wherever_it_hides(tmp_path, place):
    evil = TensorProto(name="evil", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    evil.external_data.add(key="location", value="../../etc/passwd")
    model = models.classifier()
    constant = helper.make_node("Constant", [], ["evil"], value=evil)
    if place == "constant":
        model.graph.node.append(constant)
    elif place == "subgraph":
        inner = helper.make_graph([constant], "inner", [], [])
        model.graph.node.append(helper.make_node("If", ["image"], ["x"], then_branch=inner, else_branch=inner))
    elif place == "sparse":
        indices = numpy_helper.from_array(np.zeros(1, np.int64))
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=evil, indices=indices, dims=[1]))
    else:
        model.functions.append(helper.make_function("here", "F", [], ["evil"], [constant], []))
    with pytest.raises(FormatError, match=r"weight 'evil' points to .*, outside the model's directory"):
        read_model(models.save(model, tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda t: t.ClearField("raw_data"), r"has shape \[8, 3, 3, 3\] and 0 numbers", id="no data"),
        pytest.param(lambda t: (t.ClearField("raw_data"), t.float_data.append(1)), "and 1 numbers", id="one number"),
        pytest.param(lambda t: t.dims.__setitem__(0, 1 << 40), "which takes .* bytes, and holds 864", id="absurd"),
        pytest.param(
            lambda t: t.dims.__setitem__(0, -8), r"has shape \[-8, 3, 3, 3\], which no tensor has", id="negative"
        ),
        pytest.param(lambda t: t.dims.extend([1] * 100), "which no tensor has", id="dimensions"),
        pytest.param(lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "takes 864 bytes, and holds 863", id="short"),
    ],
)
def test_weights_whose_shape_and_data_disagree_are_refused(tmp_path, change, message):
    model = models.classifier()
    change(weight(model))
    with pytest.raises(FormatError, match=message):
        read_model(models.save(model, tmp_path / "model.onnx"))


def test_graphs_nested_too_deep_are_refused(tmp_path):
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "innermost", [], [])
    for depth in range(limits.ONNX_DEPTH + 1):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=graph)], f"g{depth}", [], [])
    model = helper.make_model(graph)
    with pytest.raises(FormatError, match="has graphs inside operators more than 16 deep"):
        read_model(models.save(model, tmp_path / "model.onnx"))


def test_graphs_nested_beyond_protobufs_own_limit_are_refused(tmp_path):
    data = b""
    for _ in range(
        3_000
    ):  # field 7 of the model, or field 6 of an attribute, of a node, of a graph: any nesting will do
        data = b"\x3a" + _varint(len(data)) + data
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(FormatError, match=r"is not an ONNX file"):
        read_classifier(tmp_path / "model.onnx")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize(("field", "what"), [(b"\x0a", "nodes"), (b"\x2a", "weights")])
def test_millions_of_empty_parts_are_counted_without_being_built(tmp_path, monkeypatch, field, what):
    """Two bytes each in the file, a hundred times that in memory."""
    monkeypatch.setattr(limits, "ONNX_NODES", 1_000)
    monkeypatch.setattr(onnx, "load", None)  # not reached
    graph = (field + b"\0") * 1_001
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x3a" + _varint(len(graph)) + graph)
    with pytest.raises(FormatError, match=f"has more than 1,000 {what}; that is no image classifier"):
        read_model(tmp_path / "model.onnx")


def test_a_file_beyond_protobufs_size_is_not_read(tmp_path):
    with open(tmp_path / "model.onnx", "wb") as file:
        file.truncate(limits.ONNX_BYTES + 1)
    with pytest.raises(
        FormatError, match=r"has 2,147,483,648 bytes, more than an ONNX file can; weights may lie beside it"
    ):
        read_model(tmp_path / "model.onnx")


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    path = models.save(models.classifier(), tmp_path / os.fsdecode(b"m\xff.onnx"))
    with pytest.raises(FormatError, match="is not a name in UTF-8, and ONNX's own code opens no other: rename it"):
        read_classifier(path)


def test_an_offline_model_is_not_opened_where_its_graph_points_outside(compiled, tmp_path):
    """Its manifest lists the right digest of it, as whoever made it would see to."""
    import json
    import shutil

    from modelport.engines import open_model
    from modelport.files import digest

    home = shutil.copytree(compiled("onnxruntime").path, tmp_path / "model")
    graph = onnx.load(home / "model.onnx")
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../outside.bin")
    (home / "model.onnx").write_bytes(graph.SerializeToString())
    manifest = json.loads((home / MANIFEST).read_text())
    manifest["files"]["model.onnx"] = digest(home / "model.onnx")
    (home / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InferenceError, match=r"points to '\.\./outside\.bin', outside the model's directory"):
        open_model(OfflineModel.load(home))
