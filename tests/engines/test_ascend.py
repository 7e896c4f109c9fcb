"""Ascend on stand-ins: its two runtimes, several devices, uint8 input, and what is said where something does not fit.

Nothing here has ever run on a device.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import models
import numpy as np
import pytest
from chips import CANN_VERSION, STANDINS, engine_options
from PIL import Image

from modelport import engines
from modelport.data.decode import Decoder
from modelport.data.predictions import Predictions
from modelport.engines import atc
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.engines.session import SessionOptions
from modelport.errors import EngineUnavailableError, InferenceError
from modelport.graph.aipp import Aipp
from modelport.inference import infer
from modelport.measure.bench import bench
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.spec import ColorOrder, Precision, Preprocess
from modelport.work import InferOptions

RUNTIMES = ["ais_bench", "aclruntime"]
AIPP = CompileOptions(precision=Precision.FP16, batch_size=2, soc_version="Ascend310", aipp=True)


@pytest.fixture
def served(monkeypatch, tmp_path):
    """`served()`: for each batch that a stand-in ran, its device and its process."""
    path = tmp_path / "served.log"
    monkeypatch.setenv("STANDIN_LOG", str(path))
    return lambda: [tuple(map(int, line.split())) for line in path.read_text().splitlines()]


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Seven noisy pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_the_manifest_names_chip_and_cann_and_no_processor(ascend, compiled):
    ascend()
    manifest = compiled("ascend", 4).manifest

    assert manifest.device == "Ascend310"
    assert manifest.engine.version == CANN_VERSION
    assert manifest.host is None
    assert manifest.precision.executed is Precision.FP16


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_computes_is_a_process_of_its_own_with_the_runtime_that_is_there(ascend, compiled, served, runtime):
    ascend(runtime)

    with engines.open_model(compiled("ascend")) as session:
        assert session._devices[0].runtime == runtime
        session.infer(models.images(1))

    ((device, process),) = served()
    assert device == 0
    assert process != os.getpid()
    assert not Path(f"/proc/{process}").exists()  # close ends it
    assert not {"ais_bench", "aclruntime", "acl"} & set(sys.modules)


def test_ais_bench_is_preferred(ascend, compiled):
    ascend("ais_bench", "aclruntime")

    with engines.open_model(compiled("ascend")) as session:
        assert session._devices[0].runtime == "ais_bench"


def test_without_a_runtime_both_are_named(ascend, compiled):
    ascend()

    with pytest.raises(EngineUnavailableError, match="neither ais_bench nor aclruntime is installed in this Python"):
        engines.open_model(compiled("ascend"))


def test_a_runtime_that_cannot_be_loaded_says_why(ascend, compiled, tmp_path, monkeypatch):
    ascend()
    model = compiled("ascend")
    (tmp_path / "aclruntime.py").write_text("raise ImportError('libascendcl.so: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(
        EngineUnavailableError, match=r"aclruntime cannot be loaded \(libascendcl.so: .*\): source CANN's set_env.sh"
    ):
        engines.open_model(model)


def test_float16_really_rounds(ascend, compiled):
    """The stand-in computes in another precision than NumPy here, so the contract's tolerance is not idle."""
    ascend("ais_bench")
    batch = models.images(4)

    with engines.open_model(compiled("ascend", 4)) as session:
        error = np.abs(session.infer(batch) - models.expected_scores(batch)).max()

    assert 1e-5 < error < 1e-2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_several_devices_share_the_batches_and_each_is_a_process(ascend, compiled, served, runtime):
    ascend(runtime)
    batches = [models.images(1, seed) for seed in range(16)]

    with engines.open_model(compiled("ascend"), SessionOptions(devices=(0, 1, 3), streams=2)) as session:
        assert session.slots == 6
        start = threading.Barrier(session.slots)

        def work(slot: int) -> dict[int, np.ndarray]:
            start.wait()
            return {number: session.infer(batches[number]) for number in range(slot, len(batches), session.slots)}

        with ThreadPoolExecutor(session.slots) as pool:
            answers = dict(pair for part in pool.map(work, range(session.slots)) for pair in part.items())

    for number, scores in answers.items():
        np.testing.assert_allclose(scores, models.expected_scores(batches[number]), rtol=0, atol=1e-2)
    done = served()
    assert len(done) == len(batches)
    assert len({process for _, process in done}) == 6
    assert {device for device, _ in done} == {0, 1, 3}


def test_batches_go_round_all_devices(ascend, compiled, served):
    ascend("ais_bench")

    with engines.open_model(compiled("ascend"), SessionOptions(devices=(2, 0))) as session:
        for _ in range(6):
            session.infer(models.images(1))

    assert Counter(device for device, _ in served()) == {0: 3, 2: 3}


def test_bench_uses_the_devices_together_and_names_them(ascend, compiled, served):
    ascend("ais_bench")

    result = bench(compiled("ascend"), rounds=8, warmup=4, options=SessionOptions(devices=(0, 1)))

    assert result.devices == (0, 1)
    assert type(result).parse(result.jsonable(), "json").devices == (0, 1)
    assert {device for device, _ in served()} == {0, 1}
    assert result.throughput == pytest.approx(8 / result.wall_s)
    slow, fast = result.throughput_spread
    assert slow == pytest.approx(2 / np.percentile(result.latencies_s, 90))
    assert slow <= fast


def test_a_device_that_is_not_there_is_named_and_nothing_stays_open(ascend, compiled):
    ascend("ais_bench")
    model = compiled("ascend")

    with pytest.raises(InferenceError, match=r"cannot open it on device 9: .*aclrtSetDevice failed, deviceId:9"):
        engines.open_model(model, SessionOptions(devices=(0, 9)))
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    assert not [pid for pid in children if "ascend_worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert not list(Path("/dev/shm").glob("modelport-*"))


@pytest.mark.parametrize("devices", [(), (-1,), (0, 0)])
def test_devices_are_different_numbers_from_0(devices):
    with pytest.raises(ValueError, match="devices must be different numbers from 0, at least one"):
        SessionOptions(devices=devices)


def test_another_cann_is_refused_naming_both(ascend, compiled):
    root = ascend("ais_bench")
    model = compiled("ascend")
    (root / "x86_64-linux" / "ascend_toolkit_install.info").write_text("version=9.9\n")

    with pytest.raises(
        EngineUnavailableError, match=rf"compiled with Ascend CANN {CANN_VERSION}, installed is 9\.9; compile it again"
    ):
        engines.open_model(model)


def test_a_machine_that_only_runs_models_needs_no_atc_and_no_toolkit(ascend, compiled, monkeypatch, tmp_path):
    ascend("ais_bench")
    model = compiled("ascend")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME")
    assert (atc.find(), atc.cann_version()) == (None, None)

    with engines.open_model(model) as session:
        assert session.infer(models.images(1)).shape == (1, models.CLASSES)


def test_another_chip_is_named_where_opening_fails_and_warned_of_where_it_works(ascend, copied, monkeypatch, caplog):
    ascend("ais_bench", "acl")
    directory = copied("ascend")
    monkeypatch.setenv("STANDIN_SOC", "Ascend310P3")

    engines.open_model(directory).close()
    assert "was compiled for Ascend310, device 0 is Ascend310P3; it opened all the same" in caplog.text

    monkeypatch.setenv("STANDIN_DEVICES", "0")
    with pytest.raises(
        InferenceError,
        match="it was compiled for Ascend310, device 0 is Ascend310P3: compile it with --soc-version Ascend310P3",
    ):
        engines.open_model(directory)


def test_the_same_chip_is_no_cause_for_a_warning(ascend, compiled, monkeypatch, caplog):
    ascend("ais_bench", "acl")
    monkeypatch.setenv("STANDIN_SOC", "ascend310")

    engines.open_model(compiled("ascend")).close()

    assert caplog.text == ""


def test_a_runtime_that_crashes_is_an_error_and_not_our_end(ascend, compiled, monkeypatch):
    ascend("aclruntime")
    model = compiled("ascend")
    monkeypatch.setenv("STANDIN_CRASH", "1")

    with engines.open_model(model) as session:
        for _ in range(2):  # and again, rather than waiting for ever
            with pytest.raises(InferenceError, match=r"process for device 0 died \(SIGSEGV\)"):
                session.infer(models.images(1))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("order", list(ColorOrder))
def test_with_aipp_uint8_pixels_give_the_float_models_scores(ascend, tmp_path, photographs, runtime, order):
    ascend(runtime)
    preprocess = Preprocess(input_size=models.SIZE, color_order=order, mean=(0.4, 0.5, 0.6))
    path = models.save(models.classifier(spec=None), tmp_path / "m.onnx")
    model = compile_model(path, tmp_path / "uint8", engine="ascend", options=AIPP, preprocess=preprocess)
    tensor = model.manifest.input
    assert (tensor.dtype, tensor.layout, tensor.shape) == ("uint8", "NHWC", (2, *models.SIZE[1:], 3))
    assert model.file("aipp.cfg").read_text() == Aipp.of(preprocess).config()

    options = InferOptions(pipeline=PipelineOptions(keep_scores=True))
    result = infer(model, photographs, tmp_path / "out", options=options)

    assert (result.images, result.failures) == (7, 0)
    decoder, expected = Decoder(preprocess), []
    for picture in sorted(photographs.iterdir()):
        image = np.empty(models.SIZE, np.float32)
        decoder.normalize(decoder.pixels(picture.read_bytes()), image)
        expected.append(models.expected_scores(image[None])[0])
    scores = Predictions.read(tmp_path / "out" / "predictions.parquet").scores
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-2)


def test_a_float_batch_is_refused_where_pixels_are_wanted(ascend, tiny_onnx, tmp_path):
    ascend("ais_bench")
    model = compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=AIPP)

    with engines.open_model(model) as session:
        with pytest.raises(InferenceError, match="got float32 2x3x16x12, expected uint8 2x16x12x3"):
            session.infer(models.images(2))
        noise = session.random_batch()
        assert (noise.dtype, noise.shape) == (np.uint8, (2, 16, 12, 3))
        assert session.infer(noise).shape == (2, models.CLASSES)


def test_preprocessed_files_are_refused_where_pixels_are_wanted(ascend, tiny_onnx, tmp_path):
    ascend("ais_bench")
    model = compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=AIPP)
    (tmp_path / "bins").mkdir()
    (tmp_path / "bins" / "a.bin").write_bytes(bytes(4 * 3 * 16 * 12))
    (tmp_path / "list.info").write_text(f"0 {tmp_path / 'bins' / 'a.bin'} 12 16\n")

    result = infer(model, tmp_path / "list.info", tmp_path / "result")

    assert (
        "is preprocessed float32 data, and this model takes uint8 pixels: give it images" in result.bad_images[0].reason
    )


@pytest.mark.parametrize("package", RUNTIMES)
def test_the_stand_ins_refuse_swapped_arguments(compiled, ascend, package):
    """So that a wrong order of device and model cannot pass here unseen."""
    ascend(package)
    om = str(compiled("ascend").file("model.om"))
    calls = {
        "ais_bench": "from ais_bench.infer.interface import InferSession as S; S({0}, {1})",
        "aclruntime": "import aclruntime as a; a.InferenceSession({1}, {0}, a.session_options())",
    }
    for order, expected in (((0, om), ""), ((om, 0), "TypeError")):
        code = calls[package].format(*map(repr, order))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (expected in done.stderr) if expected else done.returncode == 0, done.stderr


def test_the_worker_imports_nothing_of_modelport(ascend):
    ascend()
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print([name for name in sys.modules if name.startswith(('modelport', 'onnx', 'pydantic'))])"
    )
    worker = Path(engines.__file__).with_name("ascend_worker.py")
    done = subprocess.run([sys.executable, "-c", code, str(worker)], capture_output=True, text=True)

    assert done.stdout == "[]\n", done.stderr


def test_stand_ins_are_executable():
    assert os.access(STANDINS / "bin" / "atc", os.X_OK)
    assert engine_options("ascend").soc_version == "Ascend310"


def test_any_toolkit_is_closed_to_a_damaged_directory(ascend, copied):
    ascend("ais_bench")
    directory = copied("ascend")
    (directory / "atc.log").write_text("edited")

    with pytest.raises(Exception, match=r"atc\.log: was changed since it was compiled"):
        OfflineModel.load(directory)
