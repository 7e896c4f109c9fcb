"""`modelport run` with an inductor target and no more said than that: it takes the recipe's own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import modelport
from PIL import Image

pytest.importorskip("timm")

from modelport.cli.weights import read_weights
from modelport.errors import FormatError
from modelport.job import run
from modelport.recipe import Recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    document = {
        "name": "inductor",
        "model": {"arch": "test_resnet", "random_weights": True, "num_classes": 7},
        "preprocess": {"input_size": [3, 32, 32]},
        "data": {"images": "images"},
        "targets": [{"engine": "inductor", "precision": "f32", "input": "uint8"}],
        "accuracy": {"batch_size": 4},
        "performance": {"batch_sizes": [4], "rounds": 2, "warmup": 1},
        "inference": {"isolate": True},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_target_decides_as_pytorch_does(recipe, tmp_path, require_engine):
    require_engine("inductor")

    result = run(recipe, tmp_path / "out")

    (target,) = result.targets
    assert (target.engine, target.executed_precision) == ("inductor", "f32")
    assert target.parity is not None
    assert target.parity.passed
    assert target.parity.relative_error < 1e-4
    assert target.paired is not None
    assert target.paired.changed == 0
    assert target.inference.images == 6
    line = next(command.line for command in result.commands if " compile " in command.line)
    assert "--engine inductor --precision f32 --batch-size 4 --input uint8" in line
    assert line.split(" -o ")[0].endswith("--random-weights")


def test_an_inductor_target_is_not_rewritten(recipe):
    document = yaml.safe_load(recipe.read_text())
    document["targets"][0]["optimize"] = "measured"
    recipe.write_text(yaml.safe_dump(document))

    with pytest.raises(FormatError, match="inductor compiles PyTorch's own network: leave it off there"):
        Recipe.load(recipe)


def test_an_inductor_target_of_an_onnx_file_is_refused_before_any_work(recipe):
    document = yaml.safe_load(recipe.read_text())
    document["model"] = {"onnx": "x.onnx"}
    recipe.write_text(yaml.safe_dump(document))

    with pytest.raises(FormatError, match="model needs arch with checkpoint or random_weights, not onnx"):
        Recipe.load(recipe)


def test_flags_without_weights_say_nothing():
    assert read_weights({"checkpoint": None, "random_weights": False}) is None
    assert read_weights({"checkpoint": None, "random_weights": True}).checkpoint is None
    assert read_weights({"checkpoint": Path("w.pth"), "random_weights": False}).checkpoint == Path("w.pth")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--engine", "null", "--random-weights"], 2, "--checkpoint and --random-weights are for inductor; null compiles the ONNX file"),
        (["--engine", "inductor", "--checkpoint", "w.pth", "--random-weights"], 2, "give either --checkpoint FILE or --random-weights"),
        (["--engine", "null", "--device", "cuda"], 1, "does not compile for device 'cuda'"),
        (["--engine", "inductor"], 1, "pass --checkpoint FILE, the weights that it was exported from (or --random-weights)"),
        (["--engine", "inductor", "--checkpoint", "w.pth"], 1, "w.pth: no such checkpoint file"),
    ],
)  # fmt: skip
def test_flags_of_compile_that_do_not_fit_are_refused(tiny_onnx, tmp_path, require_engine, words, code, message):
    require_engine("inductor")

    assert message in modelport("compile", tiny_onnx, *words, "-o", tmp_path / "out", code=code)
    assert list(tmp_path.iterdir()) == []
