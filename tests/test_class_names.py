"""Names of classes: read from files, carried by the ModelSpec from export to the offline model, and never without their classes."""

from __future__ import annotations

import json

import models
import pytest
from click.testing import CliRunner
from flat_images import write_images

from modelport.cli import cli
from modelport.data.class_names import read_class_names
from modelport.engines.compiler import compile_model
from modelport.errors import FormatError
from modelport.graph import read_classifier, write_spec
from modelport.inference import infer
from modelport.job import run
from modelport.offline import OfflineModel
from modelport.results import RunResult
from modelport.spec import ModelSpec

NAMES = ("cat", "dog", "crane", "crane", "Œuvre d'art")  # ImageNet has two cranes


@pytest.fixture
def named_onnx(tmp_path):
    spec = models.SPEC.named(NAMES)
    return models.save(models.classifier(spec=spec), tmp_path / "named.onnx")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "\n".join(NAMES) + "\n\n"),
        ("a.txt", "\ufeff" + "\r\n".join(NAMES)),
        ("a.json", json.dumps(NAMES)),
        ("a.json", json.dumps({str(label): name for label, name in reversed(list(enumerate(NAMES)))})),
        ("a.json", json.dumps({str(label): [f"n0{label}", name] for label, name in enumerate(NAMES)})),
    ],
)
def test_names_are_read_in_order_of_their_classes(tmp_path, file, text):
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / file) == NAMES


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "", "holds no class names; expected a line for each class"),
        ("a.txt", "cat\n\ndog\n", "class 1 has no name"),
        ("a.txt", "x" * 20_000, "the name of class 0 has 20,000 characters, more than 16,384"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", '"cat"', "is neither a list nor a mapping; expected a list of names"),
        ("a.json", '{"1": "cat", "2": "dog"}', "its keys are not the class numbers 0 to 1"),
        ("a.json", '{"0": "cat", "zero": "dog"}', "its keys are not the class numbers 0 to 1"),
        ("a.json", '["cat", 7]', "class 1 is not a name but int"),
        ("a.json", '["cat", " "]', "class 1 has no name"),
    ],
)
def test_what_holds_no_names_is_refused(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(FormatError, match=message):
        read_class_names(tmp_path / file)


def test_a_missing_file_is_one_line():
    with pytest.raises(FormatError, match=r"nowhere\.txt: cannot be read: No such file"):
        read_class_names("nowhere.txt")


def test_what_a_terminal_would_act_on_is_escaped(tmp_path):
    (tmp_path / "a.txt").write_text("cat\x1b[31m\ndog\u202e\n")
    assert read_class_names(tmp_path / "a.txt") == ("cat\\x1b[31m", "dog\\u202e")


def test_a_spec_without_names_is_written_as_before():
    assert "class_names" not in models.SPEC.jsonable()
    assert "class_names" not in models.SPEC.model_dump_json()
    named = models.SPEC.named(NAMES)
    assert ModelSpec.parse(named.jsonable(), "here") == named
    assert (named.name_of(1), models.SPEC.name_of(1)) == ("dog", "1")
    assert (named.called(1), named.called(99), models.SPEC.called(1)) == ("1 dog", "99", "1")
    assert models.SPEC.named(None) is models.SPEC


@pytest.mark.parametrize("names", [NAMES[:4], (*NAMES, "one more")])
def test_there_are_as_many_names_as_classes(tmp_path, names):
    with pytest.raises(FormatError, match=f"{len(names)} class names were given, and the model has 5 classes"):
        models.SPEC.named(names)
    document = models.SPEC.jsonable() | {"class_names": names}
    with pytest.raises(FormatError, match=f"class_names has {len(names)} names for 5 classes"):
        ModelSpec.parse(document, "metadata")


def test_names_go_from_the_onnx_file_into_the_offline_model(named_onnx, tmp_path):
    model = compile_model(named_onnx, tmp_path / "model", engine="null")
    assert OfflineModel.load(model.path).manifest.model.class_names == NAMES
    assert (
        json.loads((model.path / "manifest.json").read_text())["format_version"] == 2
    )  # earlier versions say: upgrade


def test_names_that_are_given_replace_the_files(named_onnx, tmp_path):
    model = compile_model(named_onnx, tmp_path / "model", engine="null", class_names=tuple("abcde"))
    assert model.manifest.model.class_names == tuple("abcde")
    with pytest.raises(FormatError, match="2 class names were given, and the model has 5 classes"):
        compile_model(named_onnx, tmp_path / "other", engine="null", class_names=("a", "b"))
    assert not (tmp_path / "other").exists()


def test_an_offline_model_without_names_is_what_earlier_versions_read(compiled):
    manifest = json.loads((compiled("null").path / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert "class_names" not in manifest["model"]


def test_write_spec_keeps_names(tiny_onnx, tmp_path):
    path = tmp_path / "copy.onnx"
    path.write_bytes(tiny_onnx.read_bytes())
    write_spec(path, models.SPEC.named(NAMES))
    assert read_classifier(path).resolve_spec(None).class_names == NAMES


def test_export_writes_them(tmp_path):
    pytest.importorskip("timm")
    from modelport.exporter import ExportOptions, export

    names = tuple(f"class {label}" for label in range(10))
    options = ExportOptions(arch="test_resnet", num_classes=10, input_size=32, class_names=names)
    assert export(options, tmp_path / "model.onnx").spec.class_names == names
    assert read_classifier(tmp_path / "model.onnx").spec.class_names == names


def test_a_recipe_names_the_classes_of_an_onnx_file(tiny_onnx, tmp_path):
    images = write_images(tmp_path / "images", 3)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: named\nmodel: {{onnx: {tiny_onnx}, class_names: names.txt}}\ndata: {{images: {images}}}\n"
        'targets: [{engine: "null"}]\naccuracy: {against_source: false, batch_size: 1}\n'
        "performance: {batch_sizes: [1], rounds: 1}\n"
    )
    run(recipe, tmp_path / "out")
    assert RunResult.read(tmp_path / "out" / "run.json").model.class_names == NAMES
    assert OfflineModel.load(tmp_path / "out" / "null-f32" / "batch-1").manifest.model.class_names == NAMES
    lines = [c.line for c in RunResult.read(tmp_path / "out" / "run.json").commands]
    assert any(f"--class-names {tmp_path / 'names.txt'}" in line for line in lines if " compile " in line)


def test_evaluate_tells_classes_by_name(named_onnx, tmp_path):
    model = compile_model(named_onnx, tmp_path / "model", engine="null")
    images = write_images(tmp_path / "images", 6)
    (tmp_path / "labels.txt").write_text("".join(f"{place:04}.png {place % 3}\n" for place in range(6)))
    infer(model, images, tmp_path / "out")
    shown = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "out"), "--labels", str(tmp_path / "labels.txt")])
    assert shown.exit_code == 0
    worst = shown.output.partition("Worst classes")[2]
    assert "2 crane" in worst
    assert "taken for" in worst
