"""ONNX Runtime's GPU providers where there is no GPU: what is refused with which words; and the binding, on the CPU in its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from modelport import files
from modelport.engines import load, onnxruntime_gpu, open_model
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.onnxruntime_gpu import BoundSession, gpu_here, require_engine_in, require_executed, view_of
from modelport.engines.session import SessionOptions
from modelport.errors import CompileError, EngineUnavailableError, InferenceError
from modelport.offline import MANIFEST, OfflineModel
from modelport.spec import Precision

ON_GPU = {"name": "NVIDIA H100", "architecture": "sm_90", "driver": "580.95.05"}
WITHOUT_A_PROVIDER = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed here"
)


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """`nvidia_smi(text, code)`: from here on the driver's tool answers this."""

    def answer(text: str, code: int = 0) -> None:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}'\nexit {code}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    return answer


@pytest.fixture
def for_gpu(compiled, tmp_path):
    """`for_gpu(kind)`: a model whose manifest says that it was compiled for a GPU; its graph is the processor's."""

    def make(kind: str = "cuda", **changes: object) -> Path:
        path = Path(shutil.copytree(compiled("onnxruntime", 2).path, tmp_path / "model"))
        manifest = json.loads((path / MANIFEST).read_text())
        manifest |= {"gpu": ON_GPU, "settings": {"tensorrt": kind == "tensorrt", "tf32": False}} | changes
        (path / MANIFEST).write_text(json.dumps(manifest))
        return path

    return make


@WITHOUT_A_PROVIDER
@pytest.mark.parametrize(("kind", "title"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_a_runtime_without_the_provider_is_told_and_nothing_is_made(tiny_onnx, tmp_path, kind, title):
    with pytest.raises(
        EngineUnavailableError, match=f"ONNX Runtime .+ here has no {title} provider .+pip install onnxruntime-gpu"
    ):
        compile_model(tiny_onnx, tmp_path / "out", engine="onnxruntime", options=CompileOptions(device=kind))
    assert list(tmp_path.iterdir()) == []


@WITHOUT_A_PROVIDER
def test_a_model_for_a_gpu_does_not_open_without_the_provider(for_gpu):
    with pytest.raises(EngineUnavailableError, match="here has no TensorRT provider"):
        open_model(for_gpu("tensorrt"))


def test_a_provider_whose_libraries_are_missing_is_told_once(tmp_path, capsys):
    library = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir()
    library.write_bytes(b"no library")
    runtime = SimpleNamespace(
        __version__="1.31.1",
        __file__=str(tmp_path / "__init__.py"),
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: print("Failed to load libcublas.so.13"),
    )
    with pytest.raises(
        EngineUnavailableError, match=r"ONNX Runtime 1\.31\.1 cannot load its CUDA provider: .+it needs NVIDIA's"
    ):
        onnxruntime_gpu.require_provider(runtime, "cuda")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_other_precisions_on_a_gpu_are_another_engines(tiny_onnx, tmp_path, precision):
    with pytest.raises(
        CompileError, match=rf"does not offer {precision} on a GPU here; it offers f32\. .+--engine inductor"
    ):
        compile_model(
            tiny_onnx,
            tmp_path / "out",
            engine="onnxruntime",
            options=CompileOptions(device="cuda", precision=precision),
        )


def test_another_device_is_refused_with_those_that_there_are(tiny_onnx, tmp_path):
    with pytest.raises(CompileError, match="does not compile for device 'rocm'; it does for cpu, cuda, tensorrt"):
        compile_model(tiny_onnx, tmp_path / "out", engine="onnxruntime", options=CompileOptions(device="rocm"))


@pytest.mark.parametrize("found", [["CPUExecutionProvider"], []])
def test_a_silent_fallback_is_an_error(found):
    with pytest.raises(EngineUnavailableError, match=r"asked for its CUDA provider and runs on .+ without saying so"):
        require_executed(found, "cuda")
    require_executed(["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda")


@WITHOUT_A_PROVIDER
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_the_real_runtime_does_not_fall_back_to_the_processor(tiny_onnx, monkeypatch):
    monkeypatch.setattr(onnxruntime_gpu, "require_provider", lambda *_: None)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    with pytest.raises(Exception, match="fallback to CPU EP has been explicitly disabled"):
        onnxruntime_gpu.create_on_gpu(onnxruntime, tiny_onnx, settings, "cuda")


def test_the_gpu_is_read_from_the_driver(nvidia_smi):
    nvidia_smi("NVIDIA H100 80GB HBM3, 9.0, 580.95.05\nNVIDIA RTX 4090, 8.9, 580.95.05")
    assert gpu_here() == {"name": "NVIDIA H100 80GB HBM3", "architecture": "sm_90", "driver": "580.95.05"}
    assert gpu_here(1)["architecture"] == "sm_89"
    with pytest.raises(EngineUnavailableError, match="there is no GPU 2 here; nvidia-smi lists 2, numbered from 0"):
        gpu_here(2)


def test_a_driver_that_names_no_gpu(nvidia_smi):
    nvidia_smi("NVIDIA-SMI has failed because it could not communicate with the driver", code=9)
    with pytest.raises(EngineUnavailableError, match="nvidia-smi names no GPU: NVIDIA-SMI has failed"):
        gpu_here()


def test_no_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EngineUnavailableError, match="there is no NVIDIA GPU here: the driver's nvidia-smi is not on the PATH"
    ):
        gpu_here()


def test_another_architecture_is_refused_with_both(for_gpu, nvidia_smi, monkeypatch):
    monkeypatch.setattr(onnxruntime_gpu, "require_provider", lambda *_: None)
    monkeypatch.setattr("modelport.engines.onnxruntime.require_provider", lambda *_: None)
    nvidia_smi("NVIDIA RTX 4090, 8.9, 580.95.05")
    with pytest.raises(
        EngineUnavailableError,
        match=r"was compiled for sm_90 \(NVIDIA H100\), GPU 0 is sm_89 \(NVIDIA RTX 4090\); compile it",
    ):
        open_model(for_gpu())


def test_operators_are_not_timed_on_a_gpu(for_gpu):
    with pytest.raises(InferenceError, match="profile a model of --engine inductor"):
        open_model(for_gpu(), SessionOptions(profile=True))


def test_a_gpu_is_no_part_of_the_processor(for_gpu, compiled):
    engine = load("onnxruntime")
    assert engine.on_accelerator(OfflineModel.load(for_gpu()))
    assert not engine.on_accelerator(compiled("onnxruntime", 2))


def test_tensorrt_must_have_taken_the_graph(tmp_path, tiny_onnx):
    with pytest.raises(CompileError, match="TensorRT took no part of the graph"):
        require_engine_in(tmp_path / "nothing.onnx")
    with pytest.raises(CompileError, match="TensorRT took no part of the graph"):
        require_engine_in(tiny_onnx)
    graph = helper.make_graph([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")], "g", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "engine.onnx")
    require_engine_in(tmp_path / "engine.onnx")


def test_bound_batches_give_the_scores_of_plain_ones(compiled):
    """The binding with the processor as the device; on it, too, inputs are updated in place."""
    model = compiled("onnxruntime", 2)
    session = onnxruntime.InferenceSession(model.file("model.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal(model.manifest.input.shape, dtype=np.float32) for _ in range(4)]
    with open_model(model) as plain, BoundSession(model, onnxruntime, session, 2, ("cpu", 0)) as bound:
        found = [bound.infer(batch) for batch in batches]
        expected = [plain.infer(batch) for batch in batches]
        with pytest.raises(InferenceError, match="got float32 1x3"):
            bound.infer(batches[0][:1])
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))  # none of them overwrote another
    with pytest.raises(InferenceError, match="the session is closed"):
        bound.infer(batches[0])


def test_memory_of_the_runtimes_can_be_written_to():
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([2, 3], np.uint8, "cpu", 0)
    view = view_of(value, [2, 3], np.dtype(np.uint8))
    view[...] = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert value.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_manifest_without_a_gpu_is_the_processors(compiled):
    model = compiled("onnxruntime", 2)
    assert onnxruntime_gpu.kind_of(model) == "cpu"
    assert "gpu" not in json.loads((model.path / MANIFEST).read_text())
    assert files.digest(model.file("model.onnx")) == model.manifest.files["model.onnx"]


@WITHOUT_A_PROVIDER
def test_on_the_command_line_it_is_one_line(tiny_onnx, tmp_path):
    line = [sys.executable, "-m", "modelport", "compile", tiny_onnx, "--engine", "onnxruntime", "--device", "tensorrt"]
    done = subprocess.run([*map(str, line), "-o", str(tmp_path / "out")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "here has no TensorRT provider" in done.stderr
