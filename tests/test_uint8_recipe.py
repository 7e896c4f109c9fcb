"""Recipe targets that take uint8 pixels: their name, and a whole job with one."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from modelport.errors import FormatError
from modelport.job import run
from modelport.recipe import Recipe, TargetSection

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def recipe(tmp_path, tiny_onnx):
    """`recipe(*targets)`: a recipe file for the tiny classifier and four images."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")

    def write(*targets: dict[str, object]):
        path = tmp_path / "recipe.yaml"
        text = {
            "name": "tiny",
            "model": {"onnx": str(tiny_onnx)},
            "data": {"images": "images"},
            "targets": list(targets),
            "accuracy": {"batch_size": 2, "against_source": False},
            "performance": {"batch_sizes": [2], "rounds": 2, "warmup": 1},
        }
        path.write_text(yaml.safe_dump(text))
        return path

    return write


def test_the_name_says_what_is_not_usual():
    assert TargetSection(engine="openvino", precision="bf16").name == "openvino-bf16"
    assert TargetSection(engine="openvino", precision="bf16", input="uint8").name == "openvino-bf16-uint8"


def test_another_input_is_refused(recipe):
    with pytest.raises(FormatError, match=r"targets.0.input: .*'float32' or 'uint8'"):
        Recipe.load(recipe({"engine": "null", "input": "int8"}))


def test_both_inputs_of_one_engine_in_one_job(recipe, tmp_path):
    path = recipe({"engine": "null"}, {"engine": "null", "input": "uint8"})
    result = run(path, tmp_path / "out")

    assert [target.name for target in result.targets] == ["null-f32", "null-f32-uint8"]
    assert [bench.name for bench in result.targets[1].performance] == ["null-f32-uint8"]
    lines = [command.line for command in result.commands if " compile " in command.line]
    assert ["--input uint8" in line for line in lines] == [False, True]
    assert "null-f32-uint8" in (tmp_path / "out" / "report.md").read_text()


def test_fast_preprocessing_is_for_the_targets_and_its_cost_is_in_the_report(recipe, tmp_path):
    path = recipe({"engine": "onnxruntime"})
    changes = {"data.preprocessing": "fast", "accuracy.against_source": True}
    result = run(path, tmp_path / "out", overrides=changes)

    (target,) = result.targets
    assert target.inference.preprocessing == "fast"
    assert target.inference.fast_check.images == 4
    assert ["--preprocess fast" in c.line for c in result.commands if " infer " in c.line] == [True]
    assert (
        "images were prepared fast; against the exact path, on 4 of them"
        in (tmp_path / "out" / "report.md").read_text()
    )
