"""Recipes: what is accepted, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import CheckpointError, DataError, FormatError
from modelport.recipe import Recipe, parse_override
from modelport.spec import Precision

RECIPES = Path(__file__).parents[1] / "recipes"
GOOD = """
name: small
model: {arch: resnet18, random_weights: true, num_classes: 10}
data: {images: pictures}
targets: [{engine: "null"}]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe.load(write(tmp_path, GOOD))
    assert recipe.data.images == tmp_path / "pictures"
    assert recipe.targets[0].precision is Precision.F32


def test_home_and_absolute_paths_are_kept(tmp_path: Path) -> None:
    recipe = Recipe.load(write(tmp_path, GOOD.replace("pictures", "~/pictures, labels: /labels.txt")))
    assert recipe.data.images == Path.home() / "pictures"
    assert recipe.data.labels == Path("/labels.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("random_weights", "random_weigths"), r"model\.random_weigths: unknown key, did you mean 'random_weights'\?"),
        (("name: small", "name: small\nperfromance: {}"), r"perfromance: unknown key, did you mean 'performance'\?"),
        (("name: small", "name: small\nperformance: {rounds: many}"), r'performance\.rounds: .*integer, got "many"'),
        (
            ("name: small", "name: small\nperformance: {rounds: 0}"),
            r"performance\.rounds: .*greater than or equal to 1, got 0",
        ),
        (
            ("name: small", "name: small\ninference: {batch_timeout: 9}"),
            r"inference: batch_timeout goes with isolate: only a process of its own can be ended when it hangs",
        ),
        (
            ("name: small", "name: small\ninference: {isolate: true, batch_timeout: 0}"),
            r"inference\.batch_timeout: .*greater than 0, got 0",
        ),
        (
            ("engine:", "engnie:"),
            r"targets\.0\.engine: is required|targets\.0\.engnie: unknown key, did you mean 'engine'\?",
        ),
        (('"null"', '"null", precision: f64'), r"targets\.0\.precision: .*'f32'.*got \"f64\""),
        (("random_weights: true, ", ""), r"model: needs exactly one of checkpoint, random_weights and onnx, has none"),
        (("random_weights: true", "random_weights: true, onnx: a.onnx"), r"exactly one of .* has random_weights, onnx"),
        (("arch: resnet18, ", ""), r"model: arch goes with checkpoint or random_weights"),
        (('{engine: "null"}', '{engine: "null"}, {engine: "null"}'), r"targets lists null-f32 twice"),
        (("targets: [", "targets: [] #"), r"targets: .*at least 1 item"),
        (("data: {images: pictures}", "data: {}"), r"data\.images: is required"),
        (
            ("name: small", "preprocess: {input_size: [3, 64, 64], mean: [0.5]}\nname: small"),
            r"mean and std need 3 values each",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(FormatError, match=message):
        Recipe.load(write(tmp_path, GOOD.replace(*change)))


def test_not_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"recipe\.yaml: not valid YAML: line 3, column 1"):
        Recipe.load(write(tmp_path, "name: x\nmodel: {arch: [\n"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError, match="a recipe is a mapping with the keys name, model"):
        Recipe.load(write(tmp_path, text))


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"none\.yaml: cannot be read: No such file"):
        Recipe.load(tmp_path / "none.yaml")


def test_overrides_have_yaml_types_and_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = Recipe.load(path, dict([parse_override("performance.batch_sizes=[1, 2]"), parse_override("data.limit=7")]))
    assert recipe.performance.batch_sizes == (1, 2)
    assert recipe.data.limit == 7
    with pytest.raises(FormatError, match=r"data\.limmit: unknown key, did you mean 'limit'"):
        Recipe.load(path, {"data.limmit": 7})
    with pytest.raises(FormatError, match="there is no section to set it in"):
        Recipe.load(path, {"name.first": 7})
    with pytest.raises(FormatError, match=r"expected key=value"):
        parse_override("rounds")
    with pytest.raises(FormatError, match="not valid YAML"):
        parse_override("rounds=[1")


def test_the_guides_recipe_pins_its_preprocessing_and_weights() -> None:
    recipe = Recipe.load(RECIPES / "cspresnext50-imagenet.yaml")
    assert recipe.preprocess is not None
    assert (recipe.preprocess.input_size, recipe.preprocess.resize_size) == ((3, 224, 224), (256, 256))
    assert recipe.model.pins == {"md5": "9a123c2b8a4eafd42926d2f3c105ed3d"}
    assert recipe.accuracy.recorded is not None
    assert (recipe.accuracy.recorded.top1, recipe.accuracy.recorded.top5) == (80.05, 94.94)


def test_absent_weights_are_told_with_digest_size_and_origin(tmp_path: Path) -> None:
    text = (RECIPES / "cspresnext50-imagenet.yaml").read_text(encoding="utf-8")
    recipe = Recipe.load(write(tmp_path, text))
    expected = (
        r"cspresnext50_ra_224-648b4713\.pth: .*not there \(md5 9a123c.*82,562,887 bytes\); get it from https://github"
    )
    with pytest.raises(CheckpointError, match=expected):
        recipe.require_files()


def test_absent_images_are_told_with_their_layout(tmp_path: Path) -> None:
    text = (RECIPES / "cspresnext50-imagenet.yaml").read_text(encoding="utf-8")
    (tmp_path / "weights.pth").write_bytes(b"")
    recipe = Recipe.load(write(tmp_path, text), {"model.checkpoint": "weights.pth", "data.images": "/nowhere/val"})
    with pytest.raises(DataError, match=r"/nowhere/val: the recipe's images .*ILSVRC2012_val_00000001\.JPEG 65"):
        recipe.require_files()
