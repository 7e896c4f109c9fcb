"""Building and running packages on the CPU device, against PyTorch itself."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import models  # noqa: E402
import torch_models  # noqa: E402

from modelport.errors import CompileError, EngineUnavailableError, InferenceError  # noqa: E402
from modelport.inductor.facts import Gpu, PackageFacts  # noqa: E402
from modelport.inductor.fold import fold_normalization  # noqa: E402
from modelport.inductor.kernels import time_kernels  # noqa: E402
from modelport.inductor.package import PackageOptions, build_package, require_arithmetic, tf32  # noqa: E402
from modelport.inductor.runner import RunnerOptions, open_runner, require_architecture  # noqa: E402
from modelport.inductor.wrapper import read_calls  # noqa: E402

SHAPE, PIXEL_SHAPE = (2, 3, 16, 12), (2, 16, 12, 3)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, PIXEL_SHAPE, dtype=np.uint8)


def eager(batch: np.ndarray) -> np.ndarray:
    """What PyTorch answers to pixels whose channels are in the opposite order of the network's."""
    images = torch.from_numpy(batch[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        return torch_models.normalised_network()((images - mean) / std).numpy()


def test_a_package_says_what_it_is_before_it_is_loaded(package):
    path, facts = package

    assert PackageFacts.read(path) == facts
    assert (facts.torch, facts.device, facts.dtype, facts.gpu) == (torch.__version__, "cpu", "float32", None)
    assert (facts.shape, facts.pixels, facts.tf32) == (PIXEL_SHAPE, True, False)
    assert facts.folded == 2  # of three: no convolution precedes the last
    assert facts.settings == {
        "channels_last": True, "freezing": True, "max_autotune": False, "coordinate_descent": False,
    }  # fmt: skip


def test_scores_are_pytorchs_with_pixels_normalised_on_the_device(package):
    with open_runner(package[0]) as runner:
        assert runner.output_shape == (2, models.CLASSES)
        for seed in range(3):
            np.testing.assert_allclose(runner.run(pixels(seed)), eager(pixels(seed)), rtol=0, atol=2e-5)


def test_batches_on_their_way_do_not_mix(package):
    batches = [pixels(seed) for seed in range(16)]
    with open_runner(package[0], RunnerOptions(buffers=2, threads=1)) as runner:
        first, second = runner.submit(batches[0]), runner.submit(batches[1])
        np.testing.assert_allclose(runner.wait(second), eager(batches[1]), rtol=0, atol=2e-5)
        np.testing.assert_allclose(runner.wait(first), eager(batches[0]), rtol=0, atol=2e-5)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(runner.run, batches))
        runner.replay()
        runner.synchronize()
    for batch, scores in zip(batches, answers, strict=True):
        np.testing.assert_allclose(scores, eager(batch), rtol=0, atol=2e-5)


def test_a_batch_that_does_not_fit_is_refused(package):
    with open_runner(package[0]) as runner:
        with pytest.raises(InferenceError, match=r"got float32 2x3x16x12, expected uint8 2x16x12x3"):
            runner.run(models.images(2))


def test_kernels_are_timed_with_what_they_read_and_write(package):
    with open_runner(package[0], RunnerOptions(buffers=1, threads=1)) as runner:
        times = time_kernels(runner, pixels(), warmup=1, rounds=3)
    calls = read_calls(package[0], "uint8")

    assert times.durations_us.shape == times.starts_us.shape == (3, len(times.names))
    assert (times.durations_us > 0).all()
    assert (np.diff(times.starts_us, axis=1) > 0).all()
    assert len(times.latencies_s) == 3
    assert [name.endswith(call.kernel) for name, call in zip(times.names, calls, strict=True)] == [True] * len(calls)
    convolutions = [call for call in calls if "convolution" in call.kernel]
    assert [(call.inputs[0].shape, call.inputs[1].shape, call.outputs[0].shape) for call in convolutions] == [
        ((2, 3, 16, 12), (8, 3, 3, 3), (2, 8, 16, 12)),
        ((2, 8, 16, 12), (8, 4, 3, 3), (2, 8, 14, 10)),
    ]
    assert all(call.inputs[1].constant and not call.inputs[0].constant for call in convolutions)
    assert calls[0].inputs[0].dtype == "uint8"
    assert calls.index(convolutions[0]) in convolutions[1].reads


def test_a_wrapper_of_other_text_tells_nothing(tmp_path):
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.wrapper.cpp", "int main() { return 0; }")
    assert read_calls(path, "float32") == ()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/readme.txt", "")
    assert read_calls(path, "float32") == ()


def test_folding_changes_no_score_and_leaves_no_weight_behind():
    network = torch_models.normalised_network()
    images = torch.from_numpy(models.images(2))
    graph = torch.export.export(network, (images,), strict=False).module()

    with torch.no_grad():
        before = graph(images)
        assert fold_normalization(graph) == 2
        after = graph(images)

    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    left = {name for name, _ in [*graph.named_parameters(), *graph.named_buffers()]}
    assert not {"norm.weight", "norm.running_var", "first.weight", "norm2.running_mean"} & left
    assert {"norm3.weight", "head.weight"} <= left
    torch.testing.assert_close(network(images), before)  # the network itself is as it was


def test_a_convolution_that_others_read_too_keeps_its_normalisation():
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = self.first(images)
            return (self.norm(found) + found).mean((2, 3))

    graph = torch.export.export(Network().eval(), (torch.zeros(SHAPE),), strict=False).module()

    assert fold_normalization(graph) == 0


def test_another_architecture_is_refused_with_both_named(package, monkeypatch):
    here = Gpu(name="NVIDIA H100 80GB HBM3", architecture="sm_90", driver="580.82")
    monkeypatch.setattr("modelport.inductor.runner.gpu_facts", lambda index: here)
    facts = PackageFacts.read(package[0])
    built = {field: getattr(facts, field) for field in PackageFacts.__slots__}
    other = PackageFacts(**built | {"gpu": Gpu(name="NVIDIA A100", architecture="sm_80", driver="550.1")})

    with pytest.raises(
        EngineUnavailableError,
        match=r"x\.pt2: holds code for sm_80 \(NVIDIA A100\), GPU 1 is sm_90 \(NVIDIA H100 80GB HBM3\); compile it there",
    ):
        require_architecture(Path("x.pt2"), other, 1)
    require_architecture(Path("x.pt2"), PackageFacts(**built | {"gpu": here}), 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_where_there_is_none_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(EngineUnavailableError, match=r"cannot use CUDA device 0: .*(driver|GPU)"):
        build_package(torch_models.tiny_network(), SHAPE, tmp_path / "x.pt2", PackageOptions(device="cuda"))
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path):
    """In a process of its own: PyTorch looks for the compiler once."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "import torch_models\n"
        "from modelport.errors import EngineUnavailableError\n"
        "from modelport.inductor.package import build_package\n"
        "try: build_package(torch_models.tiny_network(), (1, 3, 16, 12), sys.argv[1], name='tiny.onnx')\n"
        "except EngineUnavailableError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "x.pt2"), str(Path(__file__).parent.parent)]
    empty = {"PATH": str(tmp_path), "CXX": "g++-that-is-not-there", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    paths = ":".join(filter(None, sys.path))
    done = subprocess.run(words, capture_output=True, text=True, env={**empty, "PYTHONPATH": paths})

    assert "AOTInductor cannot compile tiny.onnx: AOTInductor needs a C++ compiler and finds none" in done.stdout, (
        done.stderr
    )
    assert "install g++" in done.stdout
    assert not (tmp_path / "x.pt2").exists()


def test_a_network_that_cannot_be_exported_is_a_compile_error_with_its_name(tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("no such network")

    with pytest.raises(CompileError, match=r"AOTInductor cannot compile Broken: .*no such network"):
        build_package(Broken(), SHAPE, tmp_path / "x.pt2")


def test_arithmetic_that_this_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False, raising=False)

    with pytest.raises(CompileError, match="no fp16 convolutions for this CPU; compile with --precision f32"):
        require_arithmetic(PackageOptions(dtype="float16"))
    require_arithmetic(PackageOptions())


def test_tf32_is_off_meanwhile_and_then_as_it_was():
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for allowed in (False, True):
        with tf32(allowed):
            assert [switch.allow_tf32 for switch in switches] == [allowed, allowed]
        assert [switch.allow_tf32 for switch in switches] == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PackageOptions(device="tpu"), "device must be cpu or cuda, got 'tpu'"),
        (lambda: PackageOptions(dtype="int8"), "dtype must be one of float32, float16, bfloat16, got 'int8'"),
        (lambda: RunnerOptions(buffers=0), "buffers and warmup must be at least 1, got 0 and 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_needs_nothing_but_pytorch_and_numpy():
    """A benchmark on a bare machine uses these modules."""
    code = (
        "import sys\n"
        "for name in ('pydantic', 'timm', 'onnx', 'psutil', 'PIL', 'yaml', 'scipy'): sys.modules[name] = None\n"
        "import modelport.inductor.autotune, modelport.inductor.kernels, modelport.inductor.cpu, modelport.inductor.cuda\n"
        "import modelport.inductor.program, modelport.inductor.wrapper\n"
        "print(sorted(name for name in sys.modules if name.startswith('modelport') and '.inductor' not in name))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.strip() == "['modelport', 'modelport.errors']", done.stderr
