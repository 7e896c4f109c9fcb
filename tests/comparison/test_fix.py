"""`diff` with a fix: as few int8 operators in floating point as hold the floor, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import csp
import faults
import models
import numpy as np
import onnx
import pytest
from PIL import Image

from modelport.comparison.compare import DIFF_FILE, DiffOptions, diff
from modelport.comparison.fix import FIXED_FILE, FixOptions
from modelport.data.decode import Decoder
from modelport.data.source import open_source
from modelport.engines import open_model
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import DataError, FormatError
from modelport.graph.quantized import is_quantized, read_calibration
from modelport.offline import OfflineModel
from modelport.quantize import QuantizeOptions, quantize
from modelport.results import DiffResult
from modelport.spec import Precision

FEW = DiffOptions(limit=4)


@pytest.fixture(autouse=True)
def _needs_onnx_runtime(require_engine) -> None:
    require_engine("onnxruntime")


def write_images(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        low, high = sorted(rng.integers(0, 256, 2))
        pixels = rng.integers(low, high + 1, (*csp.SIZE[1:], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`calibration` and `floor`: images."""
    folder = tmp_path_factory.mktemp("fix")
    write_images(folder / "calibration", 12, 0)
    write_images(folder / "floor", 20, 1)
    return folder


@pytest.fixture(scope="module")
def delicate(place: Path) -> Path:
    """The small network, computing the same, with one channel of its last convolution a thousand times larger.

    That channel sets the scale of the layer's result in int8, and all other channels become zero.
    """
    model = csp.classifier()
    conv = faults.find(model, "Conv_12")
    for name in conv.input[1:]:
        faults.scale(model, name, np.s_[0], 1000.0)
    faults.scale(model, "head", np.s_[:, 0], 1 / 1000)
    return models.save(model, place / "delicate.onnx")


@pytest.fixture(scope="module")
def int8(delicate: Path, place: Path) -> Path:
    path = place / "int8.onnx"
    quantize(delicate, place / "calibration", path, options=QuantizeOptions(tool="onnxruntime", samples=12))
    return path


@pytest.fixture(scope="module")
def model(int8: Path, place: Path) -> OfflineModel:
    options = CompileOptions(precision=Precision.INT8, batch_size=4)
    return compile_model(int8, place / "model", engine="onnxruntime", options=options)


@pytest.fixture(scope="module")
def labels(delicate: Path, place: Path) -> Path:
    """What the float network answers: it is always right."""
    decoder, lines = Decoder(csp.PREPROCESS), []
    made = compile_model(delicate, place / "float", engine="onnxruntime")
    with open_model(made) as session:
        for sample in open_source(place / "floor"):
            batch = np.empty((1, *csp.SIZE), np.float32)
            decoder(sample, sample.read(), batch[0])
            lines.append(f"{sample.key} {session.infer(batch).argmax()}\n")
    target = place / "labels.txt"
    target.write_text("".join(lines))
    return target


@pytest.fixture(scope="module")
def fixed(delicate: Path, model: OfflineModel, labels: Path, place: Path) -> DiffResult:
    options = FixOptions(calibration=place / "calibration", labels=labels, max_drop=5)
    return diff(delicate, model.path, place / "floor", output=place / "out", options=FEW, fix=options)


def test_the_operator_that_int8_ruins_is_named(fixed: DiffResult) -> None:
    assert fixed.culprit is not None
    assert fixed.culprit.layer.operator in ("Conv_12", "LeakyRelu_13")
    assert fixed.culprit.keep_float == ("Conv_12", "LeakyRelu_13")


def test_as_few_operators_as_hold_the_floor_stay_in_floating_point(fixed: DiffResult, place: Path) -> None:
    fix = fixed.fix
    assert fix is not None
    assert fix.passed
    assert fix.labelled
    assert fix.reference is not None
    assert fix.reference.topn[0] == 1  # the labels are its own answers
    assert not fix.steps[0].passed
    assert fix.steps[0].loss_points > 5
    assert {"Conv_12", "LeakyRelu_13"} <= set(fix.kept)
    assert len(fix.kept) < fix.candidates / 2
    held = [step.kept for step in fix.steps if step.passed]
    assert min(held) == len(fix.kept)
    assert all(not step.passed for step in fix.steps if step.kept < len(fix.kept))
    assert DiffResult.read(place / "out" / DIFF_FILE) == fixed


def test_the_fixed_file_says_what_it_keeps_and_does_what_was_measured(fixed: DiffResult, place: Path) -> None:
    path = place / "out" / FIXED_FILE
    assert fixed.fix is not None
    assert is_quantized(path)
    record = read_calibration(path)
    assert record is not None
    assert record.calibration.keep_float == fixed.fix.kept
    kept = faults.find(onnx.load(path), "Conv_12")
    assert kept.input[1] in {tensor.name for tensor in onnx.load(path).graph.initializer}  # its weight is float again
    again = diff(place / "delicate.onnx", path, place / "floor", options=FEW)
    assert again.scores.relative_distance < 0.1 < fixed.scores.relative_distance
    assert not [entry.name for entry in (place / "out").iterdir() if entry.name.startswith(".")]


def test_what_holds_its_floor_is_left_alone(delicate: Path, int8: Path, place: Path, tmp_path: Path) -> None:
    """Without labels decisions are held against A's; anything passes a floor of 100 %."""
    options = FixOptions(calibration=place / "calibration", max_drop=100)
    result = diff(delicate, int8, place / "floor", output=tmp_path / "out", options=FEW, fix=options)
    assert result.fix is not None
    assert (result.fix.kept, result.fix.output, len(result.fix.steps)) == ((), None, 1)
    assert not result.fix.labelled
    assert not (tmp_path / "out" / FIXED_FILE).exists()


def test_what_cannot_be_fixed_is_refused(
    delicate: Path, int8: Path, place: Path, tmp_path: Path, csp_onnx: Path
) -> None:
    options, out = FixOptions(calibration=place / "calibration"), tmp_path / "out"
    with pytest.raises(FormatError, match=r"emulation:fp16: runs in fp16: only an int8 model can be fixed"):
        diff(delicate, "emulation:fp16", place / "floor", output=out, options=FEW, fix=options)
    with pytest.raises(FormatError, match=r"int8\.onnx: was quantised from another file .* give that one as A"):
        diff(csp_onnx, int8, place / "floor", output=out, options=FEW, fix=options)
    with pytest.raises(FormatError, match=r"A must be the float ONNX file that it was quantised from"):
        diff(int8, int8, place / "floor", output=out, options=FEW, fix=options)
    with pytest.raises(DataError, match="fixing needs images, which the floor is measured on, and an output directory"):
        diff(delicate, int8, options=FEW, fix=options)
    assert not out.exists()


def test_images_that_calibrate_are_not_those_of_the_floor(
    delicate: Path, int8: Path, labels: Path, place: Path, tmp_path: Path
) -> None:
    options = FixOptions(calibration=place / "floor", labels=labels, max_drop=0, samples=10)
    with pytest.raises(DataError, match="were used to calibrate"):
        diff(delicate, int8, place / "floor", output=tmp_path / "out", options=FEW, fix=options)


def test_an_operator_to_keep_that_is_not_there_gets_its_neighbour(csp_onnx: Path, place: Path, tmp_path: Path) -> None:
    options = QuantizeOptions(tool="onnxruntime", keep_float=("Conv_99",))
    with pytest.raises(
        FormatError, match=r"has no operator 'Conv_99' to keep in floating point; did you mean 'Conv_9'\?"
    ):
        quantize(csp_onnx, place / "calibration", tmp_path / "out.onnx", options=options)


@pytest.mark.parametrize("tool", ["nncf", "onnxruntime"])
def test_both_quantisers_keep_an_operator_without_a_name(tiny_onnx: Path, place: Path, tmp_path: Path, tool) -> None:
    """The tiny classifier's operators have no names: the convolution goes by its result."""
    options = QuantizeOptions(tool=tool, samples=10, keep_float=("features",))
    quantize(tiny_onnx, place / "calibration", tmp_path / "out.onnx", options=options)
    model = onnx.load(tmp_path / "out.onnx")
    reads = {node.op_type: list(node.input) for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    assert reads["Conv"][1] == "kernel"
    assert reads["Gemm"][1] != "weight"
