"""The main job, with really trained weights on real images, and on other models with no code change."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image
from places import ROOT

from modelport.accuracy import evaluate
from modelport.errors import CheckpointError, DataError, EngineUnavailableError, OutputError
from modelport.job import run
from modelport.results import RunResult

RECIPE = """
name: other
model: {{{model}}}
preprocess: {{input_size: [3, 64, 64], crop_pct: 1.0}}
data: {{images: pictures{labels}}}
targets: [{targets}]
accuracy: {{batch_size: 2}}
performance: {{batch_sizes: [1, 2], rounds: 2, warmup: 1}}
"""
TINY = "arch: test_resnet, random_weights: true, num_classes: 10"  # timm's own for tests


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Five pictures with labels."""
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    (tmp_path / "labels.txt").write_text("".join(f"{number}.png {number % 3}\n" for number in range(5)))
    return tmp_path


def write(
    folder: Path, model: str = TINY, targets: str = "{engine: onnxruntime}", labels: str = ", labels: labels.txt"
) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(model=model, targets=targets, labels=labels))
    return path


def test_the_demo_keeps_its_accuracy_on_every_target(demo: RunResult) -> None:
    assert [target.name for target in demo.targets] == [
        "openvino-f32",
        "openvino-bf16",
        "onnxruntime-f32",
    ]
    assert demo.source_accuracy is not None
    assert demo.source_accuracy.images == 360
    assert demo.source_accuracy.topn[0] >= 0.97
    for target in demo.targets:
        assert target.accuracy is not None
        assert target.accuracy.topn[0] >= 0.97
        assert target.executed_precision is target.precision
    assert demo.passed


def test_the_demos_f32_targets_agree_with_pytorch(demo: RunResult) -> None:
    for target in demo.targets:
        if target.precision == "f32":
            assert target.parity is not None
            assert target.parity.samples == 360
            assert target.parity.max_abs_error <= 1e-4
            assert target.paired is not None
            assert (target.paired.lost, target.paired.gained) == (0, 0)


def test_the_demo_measures_every_batch_size(demo: RunResult) -> None:
    for target in demo.targets:
        assert [bench.batch_size for bench in target.performance] == [1, 4, 8, 16, 32]
        assert all(bench.rounds == 5 and bench.warmup == 1 for bench in target.performance)
        assert [stage.name for stage in target.inference.stages] == ["read", "decode", "batch", "infer", "post"]
        assert target.inference.stages[0].images == 360


def test_evaluating_the_demos_predictions_gives_the_jobs_figures(demo: RunResult, demo_directory: Path) -> None:
    labels = ROOT / ".demo" / "digits" / "val_label.txt"
    for target in demo.targets:
        assert evaluate(demo_directory / target.name / "predictions", labels) == target.accuracy


def test_training_and_evaluation_images_are_disjoint() -> None:
    digits = ROOT / ".demo" / "digits"
    held = {path.read_bytes() for path in (digits / "val").iterdir()}
    seen = {path.read_bytes() for path in (digits / "train").iterdir()}
    assert len(held) == 360
    assert held.isdisjoint(seen)


def test_a_second_family_with_random_weights(small: Path) -> None:
    recipe = write(small, TINY.replace("test_resnet", "resnet18"), "{engine: onnxruntime}, {engine: openvino}")
    result = run(recipe, small / "out")
    assert result.passed
    assert result.random_weights
    assert result.model.arch == "resnet18"
    assert all(target.parity and target.parity.relative_error <= 1e-4 for target in result.targets)
    assert (small / "out" / "onnxruntime-f32" / "result.json").exists()


def test_an_onnx_file_of_unknown_origin(small: Path) -> None:
    models.save(models.classifier(spec=None), small / "any.onnx")
    recipe = write(small, model="onnx: any.onnx", targets="{engine: openvino}")
    recipe.write_text(recipe.read_text().replace("[3, 64, 64]", str(list(models.SIZE))))
    result = run(recipe, small / "out")
    assert result.source_name is not None
    assert result.source_name.startswith("ONNX Runtime")
    assert result.passed


def test_a_second_run_keeps_what_is_unchanged(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = write(small, targets='{engine: "null"}')
    logger = logging.getLogger("modelport")
    logger.propagate = True
    with caplog.at_level(logging.INFO, "modelport"):
        run(recipe, small / "out", overrides={"accuracy.against_source": False})
        assert "unchanged" not in caplog.text
        caplog.clear()
        run(recipe, small / "out", overrides={"accuracy.against_source": False})
        assert "done in" not in caplog.text
        caplog.clear()
        run(recipe, small / "out", overrides={"accuracy.against_source": False, "data.limit": 3})
    assert "infer null-f32: done in" in caplog.text
    assert "export: unchanged, kept" in caplog.text


def test_without_labels_decisions_are_still_compared(small: Path) -> None:
    result = run(write(small, labels=""), small / "out")
    target = result.targets[0]
    assert target.accuracy is None
    assert target.paired is not None
    assert target.paired.changed == 0


def test_a_wrong_model_fails_the_gate(small: Path) -> None:
    recipe = write(small, targets='{engine: "null"}')  # it answers with the mean times the class
    result = run(recipe, small / "out", overrides={"accuracy.tolerance_points": 0})
    assert not result.passed
    checks = {check.name: check.passed for check in result.targets[0].gate.checks}
    assert not all(checks.values())


def test_bad_images_are_listed_and_counted_as_wrong(small: Path) -> None:
    (small / "pictures" / "1.png").write_text("not a picture")
    result = run(write(small), small / "out")
    target = result.targets[0]
    assert target.accuracy is not None
    assert (target.accuracy.images, target.accuracy.failed) == (5, 1)
    assert [bad.key for bad in target.inference.bad_images] == ["1.png"]
    with pytest.raises(DataError, match=r"1\.png: is not an image .*--on-bad-image count"):
        run(write(small), small / "other", overrides={"data.on_bad_image": "fail"})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "pictures" / "4.png").unlink(), r"labels 1 that have no image .*first: 4"),
        (
            lambda folder: shutil.copy(folder / "pictures" / "4.png", folder / "pictures" / "9.png"),
            r"holds 1 that have no label .*9\.png",
        ),
    ],
)
def test_images_and_labels_that_do_not_match(small: Path, harm: object, message: str) -> None:
    harm(small)
    with pytest.raises(DataError, match=message):
        run(write(small), small / "out")
    result = run(write(small), small / "counted", overrides={"data.on_label_mismatch": "count"})
    assert result.targets[0].accuracy is not None
    assert result.targets[0].accuracy.missing + result.targets[0].accuracy.extra == 1


def test_an_unknown_engine_is_told_before_any_work(small: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="did you mean 'openvino'"):
        run(write(small, targets="{engine: openvion}"), small / "out")
    assert not (small / "out").exists()


def test_absent_weights_are_told_before_any_work(small: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth: the recipe's model file or folder is not there"):
        run(write(small, model="arch: resnet18, checkpoint: weights.pth"), small / "out")
    assert not (small / "out").exists()


def test_a_foreign_output_directory_is_never_touched(small: Path) -> None:
    out = small / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"exists already|holds other files"):
            run(write(small), out, force=force)
    assert (out / "thesis.tex").read_text() == "years of work"
