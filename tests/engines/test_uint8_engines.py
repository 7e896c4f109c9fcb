"""`compile --input uint8` on every engine: manifest, checks, scores, and the decisions on the 360 digits."""

from __future__ import annotations

import models
import numpy as np
import pytest
from chips import SOC_VERSION

from modelport import engines
from modelport.accuracy import PREDICTIONS_FILE
from modelport.data.decode import Decoder
from modelport.data.digits import PREPROCESS, write_digits
from modelport.data.predictions import Predictions
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import CompileError, DataError, FormatError, InferenceError
from modelport.graph import read_classifier
from modelport.inference import infer
from modelport.measure.bench import bench
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.spec import Precision
from modelport.work import InferOptions

pytestmark = pytest.mark.timeout(200)
RUNTIMES = ["onnxruntime", "openvino"]
BATCH = 4


@pytest.fixture(scope="module")
def uint8(tiny_onnx, require_engine, tmp_path_factory):
    """`uint8(engine)`: the tiny classifier compiled to take pixels, once for each engine. Not to be written to."""
    made: dict[str, OfflineModel] = {}

    def compile_once(engine: str) -> OfflineModel:
        require_engine(engine)
        if engine not in made:
            options = CompileOptions(batch_size=BATCH, input_dtype="uint8")
            made[engine] = compile_model(
                tiny_onnx, tmp_path_factory.mktemp(engine) / "out", engine=engine, options=options
            )
        return made[engine]

    return compile_once


def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (BATCH, *models.SIZE[1:], 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", [*RUNTIMES, "null"])
def test_manifest_says_uint8_nhwc_of_the_same_source(uint8, compiled, engine):
    manifest, plain = OfflineModel.load(uint8(engine).path).manifest, compiled(engine, BATCH).manifest

    assert (manifest.input.name, manifest.input.dtype, manifest.input.layout) == ("image", "uint8", "NHWC")
    assert manifest.input.shape == (BATCH, *models.SIZE[1:], 3)
    assert manifest.model_copy(update={"input": plain.input, "files": plain.files}) == plain
    assert uint8(engine).label == f"{engine} f32 uint8 batch {BATCH}"


@pytest.mark.parametrize("engine", RUNTIMES)
def test_scores_are_those_of_the_float_model(uint8, compiled, engine):
    floats = np.empty((BATCH, *models.SIZE), np.float32)
    for image, row in zip(pixels(), floats, strict=True):
        Decoder(models.PREPROCESS).normalize(image, row)

    with engines.open_model(uint8(engine)) as ours, engines.open_model(compiled(engine, BATCH)) as theirs:
        expected = theirs.infer(floats)
        np.testing.assert_allclose(ours.infer(pixels()), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_null_engines_formula_is_of_the_pixels(uint8):
    with engines.open_model(uint8("null")) as session:
        scores = session.infer(pixels())

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, models.null_scores(pixels()), rtol=1e-6)


@pytest.mark.parametrize("engine", [*RUNTIMES, "null"])
@pytest.mark.parametrize("wrong", ["floats", "NCHW", "another batch"])
def test_what_does_not_fit_is_refused(uint8, engine, wrong):
    batch = {
        "floats": pixels().astype(np.float32),
        "NCHW": np.ascontiguousarray(pixels().transpose(0, 3, 1, 2)),
        "another batch": pixels()[:1],
    }[wrong]
    with engines.open_model(uint8(engine)) as session:
        with pytest.raises(InferenceError, match=r"input 'image' got .*, expected uint8 4x16x12x3"):
            session.infer(batch)


@pytest.mark.parametrize("engine", [*RUNTIMES, "null"])
def test_it_can_be_measured_on_random_pixels(uint8, engine):
    result = bench(uint8(engine), rounds=2, warmup=1)
    assert (result.rounds, result.name, result.input_dtype) == (2, f"{engine}-f32-uint8", "uint8")


def test_ascend_is_sent_to_its_own_way(tiny_onnx, tmp_path):
    options = CompileOptions(precision=Precision.FP16, soc_version=SOC_VERSION, input_dtype="uint8")
    with pytest.raises(
        CompileError, match="takes uint8 pixels through its own preprocessing: compile with --aipp instead"
    ):
        compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=options)


def test_another_dtype_is_no_option():
    with pytest.raises(ValueError, match="input_dtype must be float32 or uint8, got 'int8'"):
        CompileOptions(input_dtype="int8")


def test_a_graph_that_the_engine_refuses_goes_by_its_own_name(tmp_path, require_engine):
    require_engine("onnxruntime")
    path = models.save(models.foreign_operator(), tmp_path / "foreign.onnx")
    options = CompileOptions(input_dtype="uint8")
    with pytest.raises(CompileError, match=rf"ONNX Runtime cannot compile {path}: "):
        compile_model(path, tmp_path / "out", engine="onnxruntime", options=options, preprocess=models.PREPROCESS)
    assert not (tmp_path / "out").exists()


def test_an_opset_that_is_too_old_reaches_the_user(tmp_path):
    model = models.classifier()
    model.opset_import[0].version = 6
    with pytest.raises(FormatError, match=r"old\.onnx: has opset 6, uint8 input needs 7 or later"):
        compile_model(models.save(model, tmp_path / "old.onnx"), tmp_path / "out", engine="null",
                      options=CompileOptions(input_dtype="uint8"))  # fmt: skip


def test_preprocessed_files_are_refused(uint8, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(4 * 3 * 16 * 12))
    strict = InferOptions(pipeline=PipelineOptions(count_bad_images=False))
    with pytest.raises(
        DataError, match="is preprocessed float32 data, and this model takes uint8 pixels: give it images"
    ):
        infer(uint8("null"), tmp_path / "a.bin", tmp_path / "out", options=strict)


@pytest.mark.parametrize(("engine", "opset"), [("onnxruntime", 11), ("openvino", 18)])
def test_the_digits_are_decided_as_by_the_float_model(checkpoint, require_engine, tmp_path, engine, opset):
    pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")
    from modelport.exporter import ExportOptions, export

    require_engine(engine)
    onnx, arch = tmp_path / "model.onnx", {"arch": "cspresnext50", "num_classes": 10, "preprocess": PREPROCESS}
    export(ExportOptions(**arch, checkpoint=checkpoint, opset=opset), onnx)
    assert read_classifier(onnx).opset == opset
    _, images = write_digits(tmp_path / "digits")
    found = {}
    for dtype in ("float32", "uint8"):
        options = CompileOptions(batch_size=8, input_dtype=dtype)
        model = compile_model(onnx, tmp_path / dtype, engine=engine, options=options)
        how = InferOptions(pipeline=PipelineOptions(keep_scores=True))
        result = infer(model, images, tmp_path / f"{dtype}-out", options=how)
        assert (result.images, result.failures) == (360, 0)
        assert InferResult.read(tmp_path / f"{dtype}-out" / "infer.json").input_dtype == dtype
        found[dtype] = Predictions.read(tmp_path / f"{dtype}-out" / PREDICTIONS_FILE)

    np.testing.assert_array_equal(found["uint8"].top, found["float32"].top)
    scale = np.abs(found["float32"].scores).max()
    assert np.abs(found["uint8"].scores - found["float32"].scores).max() < 1e-5 * scale
