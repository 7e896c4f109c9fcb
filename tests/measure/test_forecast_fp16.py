"""The fp16 forecast: digits keep their accuracy, an overflowing model is found out, and nobody takes it for a device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from places import ROOT

from modelport.accuracy import evaluate
from modelport.data.predictions import Predictions
from modelport.engines import compiler
from modelport.errors import FormatError, InferenceError, OutputError
from modelport.graph.classifier import SPEC_KEY
from modelport.measure import fp16
from modelport.measure.fp16 import ForecastOptions, Fp16Forecast, forecast_fp16
from modelport.results import InferResult
from modelport.spec import ModelSpec, Preprocess

MODELPORT = Path(sys.executable).with_name("modelport")
NATURE = "a forecast by emulation on the CPU, not a device's figure"
PREPROCESS = Preprocess(input_size=(3, 8, 8), crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
DIGITS = ROOT / ".demo" / "digits"


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class 1 for bright images, by way of 150,000 times their mean: in fp16 the bright ones overflow, the dark ones do not."""
    folder = tmp_path_factory.mktemp("loud")
    up = np.full((2, 3, 1, 1), 5e4, np.float32) * np.float32([0, 1]).reshape(2, 1, 1, 1)
    nodes = [
        helper.make_node("Conv", ["image", "up", "start"], ["a"]),
        helper.make_node("Mul", ["a", "down"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["scores"], axis=1),
    ]
    weights = {"up": up, "start": np.float32([3e4, 0]), "down": np.float32([2.0**-14])}
    graph = helper.make_graph(
        nodes,
        "loud",
        [models.tensor("image", ["N", 3, 8, 8])],
        [models.tensor("scores", ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec(arch="loud", num_classes=2, preprocess=PREPROCESS)
    model.metadata_props.add(key=SPEC_KEY, value=spec.model_dump_json())
    return models.save(model, folder / "loud.onnx")


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four dark and three bright images, and their labels."""
    folder = tmp_path_factory.mktemp("greys")
    (folder / "images").mkdir()
    for number in range(7):
        bright = number % 2
        Image.new("RGB", (8, 8), (250 if bright else 3,) * 3).save(folder / "images" / f"{number}.png")
    (folder / "labels.txt").write_text("".join(f"{number}.png {number % 2}\n" for number in range(7)))
    return folder


@pytest.mark.timeout(120)
def test_digits_keep_their_accuracy(demo_directory, tmp_path):
    result = forecast_fp16(
        demo_directory / "model.onnx",
        DIGITS / "val",
        labels=DIGITS / "val_label.txt",
        output=tmp_path / "out",
    )

    assert result.images == 360
    assert result.accuracy_f32.topn[0] >= 0.97
    assert abs(result.drop_points) <= 0.56  # two images
    assert result.paired.changed <= 3
    assert result.non_finite == 0
    assert result.overflows == ()
    assert 1e-4 < result.parity.relative_error < 2e-2  # f32 itself would be 1e-6 off: fp16 was there
    assert result.nature == NATURE
    assert Fp16Forecast.read(tmp_path / "out" / "forecast.json") == result
    again = evaluate(tmp_path / "out" / "fp16-emulation", DIGITS / "val_label.txt")
    assert again == result.accuracy_fp16


def test_overflow_is_counted_and_not_hidden(loud, greys, tmp_path):
    result = forecast_fp16(loud, greys / "images", labels=greys / "labels.txt", output=tmp_path / "out")

    assert result.accuracy_f32.hits[0] == 7
    assert result.accuracy_fp16.hits[0] == 4
    assert result.accuracy_fp16.failed == 3
    assert result.drop_points == pytest.approx(300 / 7)
    assert (result.non_finite, result.paired.changed) == (3, 3)
    assert (result.paired.lost, result.paired.gained, result.paired.p_value) == (3, 0, 0.25)
    assert result.parity.samples == 4
    emulation = InferResult.read(tmp_path / "out" / "fp16-emulation" / "infer.json")
    assert (emulation.engine, emulation.precision, emulation.executed_precision) == ("fp16-emulation", "fp16", "f32")
    assert {bad.key for bad in emulation.bad_images} == {"1.png", "3.png", "5.png"}
    assert InferResult.read(tmp_path / "out" / "f32" / "infer.json").engine == "onnxruntime"


def test_a_weight_beyond_fp16_is_named(loud, greys, tmp_path, caplog):
    model = onnx.load(loud)
    for tensor in model.graph.initializer:
        if tensor.name == "start":
            tensor.CopyFrom(numpy_helper.from_array(np.float32([7e4, 0]), "start"))
    path = models.save(model, tmp_path / "louder.onnx")

    result = forecast_fp16(path, greys / "images", options=ForecastOptions(limit=2))

    assert result.overflows == ("start (largest 7e+04)",)
    assert (
        f"{path}: weight start (largest 7e+04) is beyond what fp16 can hold (65504): infinite there" in caplog.messages
    )
    assert result.non_finite == 2
    assert result.parity is None


def test_without_labels_only_decisions_are_compared(loud, greys):
    result = forecast_fp16(loud, greys / "images")

    assert (result.accuracy_f32, result.accuracy_fp16, result.drop_points) == (None, None, None)
    assert (result.paired.images, result.paired.changed, result.paired.lost) == (7, 3, 0)


def test_the_batch_size_changes_nothing_but_the_time(loud, greys):
    one, many = (forecast_fp16(loud, greys / "images", options=ForecastOptions(batch_size=size)) for size in (1, 3))

    assert one.paired == many.paired


def test_rounding_that_the_runtime_removed_is_an_error(loud, greys, tmp_path, monkeypatch):
    """What ONNX Runtime before 1.17 did (microsoft/onnxruntime#8787): the compiled graph is the one in f32."""
    compile_model = compiler.compile_model
    monkeypatch.setattr(fp16, "compile_model", lambda path, *words, **more: compile_model(loud, *words, **more))

    with pytest.raises(InferenceError, match=r"optimised the rounding to fp16 away \(score .* is no fp16 number\), so"):
        forecast_fp16(loud, greys / "images", output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_failed_say_nothing_of_the_rounding():
    scores = np.float32([[np.nan, np.nan], [1, 0.5]])
    fp16._require_rounded(Predictions(["a", "b"], [None, None], np.zeros((2, 5), int), ["bad", None], scores))


def test_existing_output_is_kept(loud, greys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")

    with pytest.raises(OutputError, match="out exists already: choose another output, or pass --force to replace it"):
        forecast_fp16(loud, greys / "images", output=tmp_path / "out")
    with pytest.raises(OutputError, match=r"holds other files \(forecast\.json is not among them\): not removed"):
        forecast_fp16(loud, greys / "images", output=tmp_path / "out", force=True)


def test_what_is_no_classifier_is_refused(greys):
    with pytest.raises(FormatError, match="is not an ONNX file"):
        forecast_fp16(greys / "labels.txt", greys / "images")


def test_the_command(loud, greys, tmp_path):
    line = [MODELPORT, "forecast-fp16", loud, "--images", greys / "images", "--labels", greys / "labels.txt"]
    shown = subprocess.run([*line, "-o", tmp_path / "out"], capture_output=True, text=True)

    assert shown.returncode == 0, shown.stderr
    assert f"{NATURE[0].upper()}{NATURE[1:]}" in shown.stdout
    for text in (
        "57.14 %, 100.00 % in f32: +42.86 points dropped",
        "3 / 0, McNemar p 0.25",
        "3 of 7 images",
        "3 images",
    ):
        assert text in shown.stdout
    assert "img/s" not in shown.stdout

    again = subprocess.run([*line, "-o", tmp_path / "out", "--json"], capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.startswith("modelport: error: ")
    forced = subprocess.run([*line, "-o", tmp_path / "out", "--force", "--json"], capture_output=True, text=True)
    document = json.loads(forced.stdout)
    assert document == json.loads((tmp_path / "out" / "forecast.json").read_text())
    assert (document["non_finite"], document["nature"]) == (3, NATURE)
