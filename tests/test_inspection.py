"""What a job finds inside its targets, and that it is in the reports."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from modelport.errors import FormatError
from modelport.job import run
from modelport.results import RunResult

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_onnx):
    """A recipe with a target that is looked into in every way, and one whose engine shows nothing."""
    folder = tmp_path_factory.mktemp("inside")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
    path = folder / "recipe.yaml"
    text = {
        "name": "tiny",
        "model": {"onnx": str(tiny_onnx)},
        "data": {"images": "images"},
        "targets": [{"engine": "onnxruntime", "optimize": "by-rule"}, {"engine": "null"}],
        "accuracy": {"batch_size": 2, "against_source": False},
        "performance": {"batch_sizes": [2], "rounds": 2, "warmup": 1},
        "inspect": {"profile": True, "layers": True, "images": 4},
    }
    path.write_text(yaml.safe_dump(text))
    return path


@pytest.fixture(scope="module")
def result(recipe) -> RunResult:
    return run(recipe, recipe.parent / "out")


def test_every_look_is_in_the_result_and_read_back(recipe, result):
    target = result.targets[0]
    assert [decision.outcome for decision in target.optimization.decisions].count("failed") == 0
    assert not target.optimization.measured
    assert any("Conv" in operator.type for operator in target.profile.operators)
    assert target.layers.images == 4
    assert target.layers.culprit is None
    assert RunResult.read(recipe.parent / "out" / "run.json") == result


def test_it_is_in_the_reports(recipe, result):
    page = (recipe.parent / "out" / "report.html").read_text()
    text = (recipe.parent / "out" / "report.md").read_text()
    name = result.targets[0].name
    for chart in ("types", "longest", "roofline", "depth"):
        assert page.count(f'id="chart-{chart}-{name}"') == 1
    assert f"{name}: Rewrites: " in text
    assert f"{name}: Operators: " in text
    assert "NO OPERATOR FALLS OUT" in text


def test_the_commands_of_every_look_are_there(recipe, result):
    lines = [command.line.split() for command in result.commands if command.part == "inside"]
    assert [words[1] for words in lines] == ["optimize", "profile", "diff"]
    assert lines[0][3:5] == ["--target", "onnxruntime"]
    assert lines[2][-2:] == ["-o", str(recipe.parent / "out" / "onnxruntime-f32" / "layers")]


def test_what_an_engine_cannot_show_is_said(result):
    null = result.targets[1]
    assert (null.profile, null.layers, null.optimization) == (None, None, None)
    assert any(warning.startswith("null-f32: no operator profile: ") for warning in result.warnings)
    assert any(warning.startswith("null-f32: no comparison of layers: ") for warning in result.warnings)


def test_a_second_run_looks_at_nothing_again(recipe, result, caplog):
    again = run(recipe, recipe.parent / "out")
    assert again.targets[0].profile == result.targets[0].profile
    assert again.targets[0].layers == result.targets[0].layers
    assert again.targets[0].optimization == result.targets[0].optimization


def test_int8_is_not_rewritten(recipe):
    changes = {"targets": [{"engine": "onnxruntime", "precision": "int8", "optimize": "measured"}]}
    with pytest.raises(FormatError, match="optimize rewrites float graphs"):
        run(recipe, recipe.parent / "int8", overrides=changes)
