"""Reading an ONNX file as an image classifier: what is accepted, and by which words the rest is refused."""

from __future__ import annotations

from pathlib import Path

import models
import onnx
import pytest
from models import CLASSES, PREPROCESS, SIZE, SPEC
from onnx import TensorProto

from modelport.errors import FormatError
from modelport.files import digest
from modelport.graph import read_classifier, write_spec
from modelport.spec import ColorOrder, ModelSpec, Preprocess


@pytest.fixture
def saved(tmp_path: Path):
    """`saved(model)`: its path."""
    return lambda model: models.save(model, tmp_path / "model.onnx")


def test_facts_of_a_classifier_with_dynamic_batch(tiny_onnx):
    graph = read_classifier(tiny_onnx)

    assert graph.path == tiny_onnx
    assert graph.sha256 == digest(tiny_onnx)
    assert graph.opset == models.OPSET
    assert (graph.input_name, graph.output_name) == ("image", "scores")
    assert graph.batch_size is None
    assert graph.input_size == SIZE
    assert graph.num_classes == CLASSES
    assert graph.spec == SPEC


def test_fixed_batch_is_read(saved):
    assert read_classifier(saved(models.classifier(batch=4))).batch_size == 4


@pytest.mark.parametrize("unknown", [None, "height"])
def test_dynamic_height_is_none(saved, unknown):
    assert read_classifier(saved(models.classifier(height=unknown))).input_size == (3, None, SIZE[2])


def test_weights_listed_as_inputs_are_not_counted(saved):
    graph = read_classifier(saved(models.classifier(weights_as_inputs=True)))

    assert graph.input_name == "image"


def test_weights_beside_the_model_are_accepted(tmp_path):
    path = models.save_with_external_data(models.classifier(), tmp_path / "model.onnx", "kernel.bin")

    assert read_classifier(path).num_classes == CLASSES


MALFORMED = {
    "two inputs": (models.two_inputs(), r"has 2 inputs \(image, mask\); an image classifier has one"),
    "two outputs": (models.two_outputs(), r"has 2 outputs \(scores, negated\); an image classifier has one"),
    "rank 3": (models.shaped(["N", 16, 12]), r"'image' has shape \? x 16 x 12; N x channels x height x width"),
    "no input shape": (models.shaped(None), "is not a valid ONNX graph: .*shape"),
    "no output shape": (models.shaped(["N", *SIZE], None), "is not a valid ONNX graph: .*shape"),
    "scalar": (models.shaped([]), "'image' has shape scalar; N x channels x height x width"),
    "NHWC": (
        models.shaped(["N", 16, 12, 3]),
        r"has shape \? x 16 x 12 x 3; the second axis must be 1 or 3 channels \(it looks like NHWC: .*NCHW",
    ),
    "seven channels": (models.shaped(["N", 7, 16, 12]), r"\? x 7 x 16 x 12; the second axis must be 1 or 3 channels$"),
    "uint8 input": (
        models.shaped(["N", *SIZE], input_type=TensorProto.UINT8),
        "input 'image' is uint8; float32 is accepted",
    ),
    "rank 4 output": (
        models.shaped(["N", *SIZE], ["N", 5, 1, 1]),
        r"output 'scores' has shape \? x 5 x 1 x 1; N x classes is accepted",
    ),
    "int64 output": (
        models.shaped(["N", *SIZE], output_type=TensorProto.INT64),
        "output 'scores' is int64; float32 scores are accepted",
    ),
    "unknown operator": (models.unknown_operator(), "is not a valid ONNX graph: .*Teleport"),
    "dangling input": (models.dangling_input(), "is not a valid ONNX graph: .*nothing"),
    "metadata not JSON": (models.classifier(spec="{arch: tiny"), "metadata modelport.model: not valid JSON"),
    "metadata misspelt": (
        models.classifier(spec=SPEC.model_dump_json().replace("crop_pct", "crop_pc")),
        r"metadata modelport.model: preprocess.crop_pc: unknown key, did you mean 'crop_pct'\?",
    ),
}


@pytest.mark.parametrize(("model", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_graphs_are_refused(saved, model, message):
    with pytest.raises(FormatError, match=message) as caught:
        read_classifier(saved(model))
    assert "model.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname"])
def test_weights_outside_the_directory_are_refused(tmp_path, location):
    inside = tmp_path / "inside"
    inside.mkdir()
    model = models.classifier()
    kernel = model.graph.initializer[0]
    kernel.ClearField("raw_data")
    (tmp_path / "outside.bin").write_bytes(models.KERNEL.tobytes())
    kernel.data_location = TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value=location)

    with pytest.raises(FormatError, match=f"'kernel' points to '{location}', outside the model's directory"):
        read_classifier(models.save(model, inside / "model.onnx"))


def test_missing_weights_file_is_refused(tmp_path):
    path = models.save_with_external_data(models.classifier(), tmp_path / "model.onnx", "kernel.bin")
    (tmp_path / "kernel.bin").unlink()

    with pytest.raises(FormatError, match=r"is not a valid ONNX graph: .*kernel"):
        read_classifier(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"a plain text, no graph\n", r"is not an ONNX file \(", id="text"),
        pytest.param(b"", "is not an ONNX file .it holds no operators", id="empty"),
        pytest.param(models.classifier().SerializeToString()[:300], r"is not an ONNX file \(", id="truncated"),
    ],
)
def test_files_that_are_not_onnx_are_refused(tmp_path, content, message):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(FormatError, match=message):
        read_classifier(path)


def test_missing_file_is_refused_with_what_makes_one(tmp_path):
    with pytest.raises(FormatError, match=r"absent.onnx: no such file; `modelport export` makes an ONNX file"):
        read_classifier(tmp_path / "absent.onnx")


def test_directory_is_refused(tmp_path):
    with pytest.raises(FormatError, match=f"{tmp_path}: is a directory"):
        read_classifier(tmp_path)


def test_spec_comes_from_the_metadata(tiny_onnx):
    assert read_classifier(tiny_onnx).resolve_spec(None) == SPEC


def test_given_preprocess_overrides_the_metadata_and_keeps_the_identity(saved):
    spec = SPEC.model_copy(update={"checkpoint_sha256": "ab" * 32})
    given = PREPROCESS.model_copy(update={"crop_pct": 0.5, "color_order": ColorOrder.BGR})

    resolved = read_classifier(saved(models.classifier(spec=spec))).resolve_spec(given)

    assert resolved == spec.model_copy(update={"preprocess": given})


def test_without_metadata_the_preprocess_must_be_given(saved):
    graph = read_classifier(saved(models.classifier(spec=None)))

    assert graph.spec is None
    with pytest.raises(FormatError, match=r"model.onnx: carries no preprocessing: .*--recipe.*--preprocess imagenet"):
        graph.resolve_spec(None)
    assert graph.resolve_spec(PREPROCESS) == ModelSpec(arch="model", num_classes=CLASSES, preprocess=PREPROCESS)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, *SIZE[1:]), "input 'image' has C=3, the preprocessing prepares C=1"),
        ((3, 20, 12), "input 'image' has H=16, the preprocessing prepares H=20"),
        ((3, 16, 20), "input 'image' has W=12, the preprocessing prepares W=20"),
    ],
)
def test_preprocess_of_another_size_is_refused(tiny_onnx, size, message):
    channels = size[0]
    given = Preprocess(input_size=size, mean=(0.5,) * channels, std=(0.5,) * channels)

    with pytest.raises(FormatError, match=message):
        read_classifier(tiny_onnx).resolve_spec(given)


def test_dynamic_size_accepts_any(saved):
    given = Preprocess(input_size=(3, 20, 24))
    graph = read_classifier(saved(models.classifier(height="H", width="W", spec=None)))

    assert graph.resolve_spec(given).preprocess == given


def test_number_of_classes_that_the_file_does_not_say_must_be_given(saved):
    graph = read_classifier(saved(models.classifier(classes="C", spec=None)))

    assert graph.num_classes is None
    with pytest.raises(FormatError, match="output 'scores' does not say its number of classes: pass --num-classes"):
        graph.resolve_spec(PREPROCESS)
    assert graph.resolve_spec(PREPROCESS, CLASSES).num_classes == CLASSES


def test_number_of_classes_that_contradicts_the_graph_is_refused(tiny_onnx):
    with pytest.raises(FormatError, match=r"class.*\b7\b|\b7 class"):
        read_classifier(tiny_onnx).resolve_spec(None, num_classes=7)


def test_metadata_that_contradicts_the_graph_is_refused(saved):
    stale = SPEC.model_copy(update={"num_classes": 1000})

    with pytest.raises(FormatError, match=r"class.*\b1000\b|\b1000 class"):
        read_classifier(saved(models.classifier(spec=stale))).resolve_spec(None)


def test_fixed_batch_cannot_serve_another(saved):
    fixed = read_classifier(saved(models.classifier(batch=4)))

    fixed.require_batch(4)
    with pytest.raises(FormatError, match=r"its batch is fixed at 4, cannot compile it for 1; .*dynamic batch"):
        fixed.require_batch(1)


def test_dynamic_batch_serves_any(tiny_onnx):
    read_classifier(tiny_onnx).require_batch(64)


def test_written_spec_is_read_back_and_replaces_the_one_before(saved):
    path = saved(models.classifier(spec=None))
    model = onnx.load(path)
    model.metadata_props.add(key="author", value="someone")
    models.save(model, path)
    other = SPEC.model_copy(update={"arch": "other", "checkpoint_sha256": "cd" * 32})

    write_spec(path, SPEC)
    write_spec(path, other)

    assert read_classifier(path).spec == other
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries["author"] == "someone"
    assert len(onnx.load(path).metadata_props) == 2
    assert onnx.load(path).graph == model.graph
