"""`infer --preprocess fast`: the result says how near it came, by a sample held against the exact path after the run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from modelport import fast_check
from modelport.accuracy import INFER_FILE
from modelport.data.decode import Decoder
from modelport.data.fast import FastDecoder
from modelport.data.source import open_source
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import DataError
from modelport.fast_check import FastSample
from modelport.inference import infer
from modelport.offline import OfflineModel
from modelport.results import InferResult
from modelport.spec import Preprocess
from modelport.work import InferOptions

pytestmark = pytest.mark.timeout(120)
SIZE, COUNT, CLASSES = 24, 7, 5
PREPROCESS = Preprocess(input_size=(3, SIZE, SIZE), crop_pct=0.8, mean=(0, 0, 0), std=(1, 1, 1))
FAST = InferOptions(preprocessing="fast")


@pytest.fixture(scope="module")
def source_onnx(tmp_path_factory) -> Path:
    """A file for the null engine, which computes nothing of it."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["class"]),
    ]
    weight = numpy_helper.from_array(np.ones((3, CLASSES), np.float32), "weight")
    inputs = [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("class", onnx.TensorProto.FLOAT, ["N", CLASSES])]
    path = tmp_path_factory.mktemp("source") / "tiny.onnx"
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, [weight]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module", params=["float32", "uint8"])
def offline(request, source_onnx, tmp_path_factory) -> OfflineModel:
    options = CompileOptions(batch_size=3, input_dtype=request.param)
    folder = tmp_path_factory.mktemp("offline") / "out"
    return compile_model(source_onnx, folder, engine="null", options=options, preprocess=PREPROCESS)


@pytest.fixture
def images(tmp_path) -> Path:
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (50, 71, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def by_hand(images: Path) -> tuple[int, float]:
    exact, fast = Decoder(PREPROCESS), FastDecoder(PREPROCESS)
    pairs = [(exact.pixels(path.read_bytes()), fast.pixels(path.read_bytes())) for path in images.iterdir()]
    distance = np.array([np.abs(a.astype(int) - b) for a, b in pairs])
    return int(distance.max()), float((distance > 0).mean())


def test_exact_is_the_default_and_compares_nothing(offline, images, out):
    result = infer(offline, images, out)
    assert (result.preprocessing, result.fast_check) == ("exact", None)


def test_the_result_says_how_near_it_came(offline, images, out):
    result = infer(offline, images, out, options=FAST)

    largest, share = by_hand(images)
    assert result.preprocessing == "fast"
    assert (result.fast_check.images, result.fast_check.largest_difference, result.fast_check.changed) == (
        COUNT,
        largest,
        0,
    )
    assert result.fast_check.differing_share == pytest.approx(share)
    assert 0 < share < 0.5
    assert InferResult.read(out / "infer.json") == result


def test_changed_decisions_are_counted(offline, images, out, monkeypatch):
    from modelport.data import fast

    monkeypatch.setattr(fast.FastDecoder, "_fit", staticmethod(lambda *_: Image.new("RGB", (SIZE, SIZE))))
    check = infer(offline, images, out, options=FAST).fast_check

    assert check.changed == COUNT  # black scores 0 for every class: a tie goes to class 0, the exact path says 4
    assert check.largest_difference > 100
    assert check.differing_share > 0.9


def test_a_sample_is_spread_over_the_images(offline, images, out, monkeypatch):
    monkeypatch.setattr(fast_check, "MOST", 3)
    sample = FastSample(open_source(images))
    assert sample._rows == {0, 3, 6}
    assert infer(offline, images, out, options=FAST).fast_check.images == 3


def test_bad_images_are_left_out(offline, images, out):
    (images / "3.png").write_bytes(b"")
    result = infer(offline, images, out, options=FAST)
    assert (result.failures, result.fast_check.images) == (1, COUNT - 1)


def test_nothing_to_compare(offline, images, out):
    for path in images.iterdir():
        path.write_bytes(b"no image")
    result = infer(offline, images, out, options=FAST)
    assert (result.failures, result.fast_check) == (COUNT, None)


def test_the_comparison_is_not_part_of_the_timing(offline, images, out):
    result = infer(offline, images, out, options=FAST)
    assert {stage.images for stage in result.stages} == {COUNT}


def test_an_image_that_has_gone_meanwhile(offline, images, out):
    def vanish(_: str, done: int, total: int) -> None:
        if done == total:
            (images / "0.png").unlink()

    with pytest.raises(
        DataError, match=r"0\.png: could be read in the run and not afterwards: it cannot be read: No such file"
    ):
        infer(offline, images, out, options=FAST, progress=vanish)
    assert not (out / INFER_FILE).exists()


def test_prepared_inputs_are_said_to_be_as_they_were(source_onnx, tmp_path, out, caplog):
    model = compile_model(source_onnx, tmp_path / "model", engine="null", preprocess=PREPROCESS)
    (tmp_path / "bins").mkdir()
    for number in range(2):
        np.ones((3, SIZE, SIZE), "<f4").tofile(tmp_path / "bins" / f"{number}.bin")
    with caplog.at_level(logging.WARNING, "modelport"):
        result = infer(model, tmp_path / "bins", out, options=FAST)
    assert result.fast_check is None
    assert "bins: 2 of 2 inputs are prepared already: --preprocess fast has no effect on them" in caplog.text


def modelport(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("modelport")), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


class TestCommands:
    def test_compile_uint8_and_infer_fast(self, source_onnx, images, tmp_path):
        model, recipe = (
            tmp_path / "model",
            ["--input-size", SIZE, "--mean", "0,0,0", "--std", "1,1,1", "--crop-pct", 0.8],
        )
        done = modelport("compile", source_onnx, "--engine", "null", "--input", "uint8", *recipe, "-o", model)
        assert f"image uint8 1x{SIZE}x{SIZE}x3 NHWC" in done.stdout

        done = modelport("infer", model, "--images", images, "--preprocess", "fast", "-o", tmp_path / "told")
        assert "null-f32-uint8, runs in f32" in done.stdout
        assert f"fast: against the exact path, on {COUNT} images, pixels differ by at most" in done.stdout

        done = modelport("infer", model, "--images", images, "--preprocess", "fast", "-o", tmp_path / "out", "--json")
        assert json.loads(done.stdout)["fast_check"]["images"] == COUNT

    def test_exact_says_nothing_of_it(self, offline, images, out):
        assert "preprocessing" not in modelport("infer", offline.path, "--images", images, "-o", out).stdout

    def test_another_word_is_a_usage_error(self, offline, images, out):
        done = modelport("infer", offline.path, "--images", images, "--preprocess", "imagenet", "-o", out, code=2)
        assert "'imagenet' is not one of 'exact', 'fast'" in done.stderr

    def test_another_input_is_a_usage_error(self, source_onnx, out):
        done = modelport("compile", source_onnx, "--engine", "null", "--input", "int8", "-o", out, code=2)
        assert "'int8' is not one of 'float32', 'uint8'" in done.stderr
