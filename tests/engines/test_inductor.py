"""The engine inductor on the CPU device: what it runs in, what it refuses, what its profile tells."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from chips import engine_options

pytest.importorskip("torch")

import torch
import torch_models

from modelport import engines
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.session import SessionOptions
from modelport.errors import CompileError, EngineUnavailableError, FormatError, InferenceError
from modelport.files import digest
from modelport.inductor.facts import PackageFacts
from modelport.inference import share_cores
from modelport.measure.profile import ProfileOptions, profile
from modelport.offline import MANIFEST, OfflineModel
from modelport.results import ProfileResult
from modelport.spec import Precision
from modelport.work import describe

GPU = {"name": "NVIDIA H100 80GB HBM3", "architecture": "sm_90", "driver": "580.82.07"}


@pytest.fixture(scope="module")
def bf16_pixels(tiny_onnx, require_engine, tmp_path_factory) -> OfflineModel:
    """The tiny classifier in bf16, taking pixels. Not to be written to."""
    require_engine("inductor")
    options = replace(engine_options("inductor", 4, Precision.BF16), input_dtype="uint8")
    return compile_model(tiny_onnx, tmp_path_factory.mktemp("bf16") / "out", engine="inductor", options=options)


def edit(directory: Path, **changes: object) -> Path:
    path = directory / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def test_the_manifest_says_which_options_were_on_and_names_no_gpu(compiled):
    manifest = compiled("inductor", 4).manifest

    assert manifest.settings == {
        "channels_last": True, "freezing": True, "max_autotune": False, "coordinate_descent": False, "tf32": False,
    }  # fmt: skip
    assert manifest.gpu is None
    assert sorted(manifest.files) == ["model.pt2", "source.onnx"]


def test_other_engines_manifests_have_no_new_keys(compiled):
    written = json.loads((compiled("null").path / MANIFEST).read_text())

    assert not {"gpu", "settings"} & written.keys()


def test_bf16_really_runs_and_pixels_are_normalised_by_the_model(bf16_pixels):
    manifest = bf16_pixels.manifest
    batch = np.random.default_rng(1).integers(0, 256, (4, *models.SIZE[1:], 3), dtype=np.uint8)
    mean, std = np.array(models.PREPROCESS.mean), np.array(models.PREPROCESS.std)
    expected = models.expected_scores((((batch / 255) - mean) / std).transpose(0, 3, 1, 2))

    assert (manifest.precision.executed, manifest.input.dtype, manifest.input.layout) == ("bf16", "uint8", "NHWC")
    assert PackageFacts.read(bf16_pixels.file("model.pt2")).dtype == "bfloat16"
    with engines.open_model(bf16_pixels) as session:
        scores = session.infer(batch)
    errors = np.abs(scores - expected).max() / np.abs(expected).max()
    assert 1e-5 < errors < 2e-2  # bf16 has 8 bits: an error of nothing would be another arithmetic


def test_a_profile_has_every_kernel_with_its_tensors(compiled):
    result = profile(compiled("inductor", 4), options=ProfileOptions(rounds=4, warmup=1, threads=1, peaks=False))

    heavy = {operator.kind: operator for operator in result.operators if operator.kind in ("convolution", "matmul")}
    convolution = heavy["convolution"]
    assert convolution.precision is Precision.F32
    assert convolution.inputs[0].shape == (4, *models.SIZE)
    assert convolution.outputs[0].shape == (4, 8, *models.SIZE[1:])
    assert convolution.flops == 2 * 4 * 8 * 16 * 12 * 3 * 9
    assert heavy["matmul"].outputs[0].shape == (4, models.CLASSES)
    assert all(operator.duration_us > 0 for operator in result.operators)
    assert [operator.start_us for operator in result.operators] == sorted(each.start_us for each in result.operators)
    assert len({operator.name for operator in result.operators}) == len(result.operators)
    assert result.input_dtype == "float32"
    assert ProfileResult.parse(result.jsonable(), "again") == result


def test_an_edited_package_is_refused_and_never_loaded(compiled, tmp_path, monkeypatch):
    directory = Path(shutil.copytree(compiled("inductor", 4).path, tmp_path / "copy"))
    package = directory / "model.pt2"
    package.write_bytes(package.read_bytes() + b"x")
    monkeypatch.setattr("modelport.inductor.runner.load_kernels", lambda *_, **__: pytest.fail("its code was loaded"))

    with pytest.raises(FormatError, match=r"model\.pt2: was changed since it was compiled"):
        engines.open_model(directory)


def test_a_package_that_is_not_the_manifests_is_refused_and_never_loaded(compiled, bf16_pixels, tmp_path, monkeypatch):
    directory = Path(shutil.copytree(compiled("inductor", 4).path, tmp_path / "copy"))
    shutil.copyfile(bf16_pixels.file("model.pt2"), directory / "model.pt2")
    files = json.loads((directory / MANIFEST).read_text())["files"]
    edit(directory, files=files | {"model.pt2": digest(directory / "model.pt2")})
    monkeypatch.setattr("modelport.inductor.runner.load_kernels", lambda *_, **__: pytest.fail("its code was loaded"))

    with pytest.raises(
        InferenceError, match=r"model\.pt2 was built for another precision \(bf16\) than the manifest says \(f32\)"
    ):
        engines.open_model(directory)


def test_a_manifest_that_claims_a_gpu_does_not_make_a_package_for_one(compiled, tmp_path):
    directory = edit(Path(shutil.copytree(compiled("inductor", 4).path, tmp_path / "copy")), gpu=GPU)

    assert engines.load("inductor").on_accelerator(OfflineModel.load(directory))
    with pytest.raises(InferenceError, match=r"was built for another GPU \(None\) than the manifest says \(.*sm_90"):
        engines.open_model(directory)


def test_a_gpu_gets_two_batches_at_once_and_numbers_of_its_own(compiled, tmp_path):
    engine = engines.load("inductor")
    processor = compiled("inductor", 4)
    card = OfflineModel.load(edit(Path(shutil.copytree(processor.path, tmp_path / "copy")), gpu=GPU))

    assert describe(card, SessionOptions()).compiled_for == "NVIDIA H100 80GB HBM3 (sm_90, driver 580.82.07), TF32 off"
    assert describe(processor, SessionOptions()).compiled_for is None
    assert share_cores(engine, SessionOptions(), card).streams == 2
    assert share_cores(engine, SessionOptions(streams=3), card).streams == 3
    assert share_cores(engine, SessionOptions(threads=4), processor) == SessionOptions(streams=4, threads=4)


def test_an_onnx_file_alone_is_refused_with_the_other_road(tiny_onnx, tmp_path):
    with pytest.raises(
        CompileError,
        match=r"tiny\.onnx: PyTorch AOTInductor compiles PyTorch's own network .*--checkpoint FILE.*ONNX Runtime's CUDA provider",
    ):
        compile_model(tiny_onnx, tmp_path / "out", engine="inductor")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("inductor", {"device": "tpu"}, "does not compile for device 'tpu'; it does for cpu, cuda"),
        ("inductor", {"precision": Precision.INT8}, "does not offer int8 here; it offers f32, bf16, fp16"),
        ("inductor", {"soc_version": "Ascend310"}, "--soc-version and --aipp are for an accelerator"),
        ("null", {"device": "cuda"}, "does not compile for device 'cuda'"),
        ("null", {"tf32": True}, "--tf32 and --autotune are for inductor"),
        ("null", {"program": "x.pt2"}, "compiles the ONNX file: --checkpoint"),
    ],
)
def test_options_that_an_engine_does_not_have_are_refused(engine, options, message):
    with pytest.raises(CompileError, match=message):
        engines.load(engine).resolve(CompileOptions(**options))


def test_a_missing_pytorch_names_the_extra(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("modelport.engines.inductor.version", missing)

    with pytest.raises(
        EngineUnavailableError, match=r"\(torch\) is not installed: pip install 'modelport\[inductor\]'"
    ):
        engines.load("inductor").version()


def test_cuda_where_there_is_none_is_refused_by_the_compilers_process(tiny_onnx, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    options = replace(engine_options("inductor", 1), device="cuda")

    with pytest.raises(EngineUnavailableError, match=r"cannot use CUDA device 0: .*driver"):
        compile_model(tiny_onnx, tmp_path / "out", engine="inductor", options=options)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_none_is_a_compile_error(tiny_onnx, tmp_path):
    (tmp_path / "program.pt2").write_bytes(b"rubbish")
    options = CompileOptions(program=str(tmp_path / "program.pt2"))

    with pytest.raises(CompileError, match=r"AOTInductor cannot compile .*tiny\.onnx: "):
        compile_model(tiny_onnx, tmp_path / "out", engine="inductor", options=options)


def refuse_float16(options) -> None:
    if options.dtype == "float16":
        raise CompileError("no fp16 convolutions for this CPU")


def test_the_fastest_of_several_packages_is_kept(tmp_path, monkeypatch):
    """What cannot be built (float16, as on most processors) is passed over."""
    from modelport.inductor import autotune
    from modelport.inductor.package import PackageOptions

    plain = PackageOptions()
    assert next(autotune.candidates(plain)).settings == plain.settings
    assert len(list(autotune.candidates(replace(plain, device="cuda")))) == 7
    monkeypatch.setattr("modelport.inductor.package.require_arithmetic", refuse_float16)
    monkeypatch.setattr(autotune, "candidates", lambda options: iter([replace(options, dtype="float16"), options]))
    monkeypatch.setattr(autotune, "_TURN_S", 0.01)

    measured = autotune.fastest_package(torch_models.tiny_network(), (1, *models.SIZE), tmp_path / "best.pt2", plain)

    assert PackageFacts.read(tmp_path / "best.pt2") == measured.facts
    document = json.loads(measured.text())
    assert document["kept"] == document["tried"][0]["settings"] == measured.facts.settings
    assert [len(each["seconds"]) for each in document["tried"]] == [7]
    assert ["no fp16 convolutions" in each["reason"] for each in document["failed"]] == [True]
