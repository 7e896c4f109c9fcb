"""ais_bench's Python class and command line over offline models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest

from modelport import engines
from modelport.data.dump import MARKER, read_dump, read_scores
from modelport.errors import DataError, FormatError, InferenceError, OutputError
from modelport.guide.ais_bench import InferSession
from modelport.guide.ais_bench.inputs import FileInput
from modelport.guide.ais_bench.run import AisOptions, run
from modelport.guide.ais_bench.tensor import Format
from modelport.offline import OfflineModel

Compile = Callable[..., OfflineModel]
ENGINES = ("null", "onnxruntime")
IMAGE_BYTES = 4 * 3 * 16 * 12
MODELPORT = Path(sys.executable).with_name("modelport")

SCRIPT = """
import sys
import numpy as np
from ais_bench.infer.interface import InferSession

session = InferSession(device_id=0, model_path=sys.argv[1])
data = np.frombuffer(bytearray(session.get_inputs()[0].realsize))
outputs = session.infer([data])
print("outputs:{} type:{}".format(outputs, type(outputs)))
print("static infer avg:{} ms".format(np.mean(session.sumary().exec_time_list)))
image = np.load(sys.argv[2])
session.reset_summaryinfo()
outputs = session.infer(feeds=[image], mode="static", custom_sizes=10000, out_array=True)
outputs[0].tofile(sys.argv[3])
s = session.summary()
times = [end - start for start, end in s.exec_time_list]
assert len(times) == 1 and times[0] >= 0
session.free_resource()
session.finalize()
"""


def ais_bench(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    line = [str(MODELPORT), "guide", "ais-bench", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def fail(*words: object) -> str:
    """The message of a command that must end with one line on stderr and nothing on stdout."""
    done = ais_bench(*words, code=1)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def images() -> np.ndarray:
    return models.images(5)


@pytest.fixture
def folder(tmp_path: Path, images: np.ndarray) -> Path:
    """Five images: .npy with and without a leading one, flat .npy, and .bin."""
    directory = tmp_path / "inputs"
    directory.mkdir()
    np.save(directory / "a.npy", images[0])
    np.save(directory / "b.npy", images[1:2])
    np.save(directory / "c.npy", images[2].ravel())
    images[3].tofile(directory / "d.bin")
    images[4].tofile(directory / "e.e.bin")
    return directory


# The class


@pytest.mark.parametrize("engine", ENGINES)
def test_an_ais_bench_script_runs_after_changing_its_import(
    engine: str, compiled: Compile, tmp_path: Path, images: np.ndarray
) -> None:
    ours = SCRIPT.replace("from ais_bench.infer.interface import", "from modelport.guide.ais_bench import")
    assert ours.splitlines()[1:3] == SCRIPT.splitlines()[1:3]
    (tmp_path / "script.py").write_text(ours)
    np.save(tmp_path / "image.npy", images[:1])
    model = compiled(engine).path
    line = [sys.executable, "script.py", str(model), "image.npy", "scores.bin"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("outputs:[array([[")
    assert "static infer avg:" in done.stdout
    with engines.open_model(model) as session:
        np.testing.assert_array_equal(read_scores(tmp_path / "scores.bin"), session.infer(images[:1])[0])


def test_a_session_describes_its_tensors(compiled: Compile) -> None:
    session = InferSession(0, str(compiled("null", 2).path))
    (tensor,), (output,) = session.get_inputs(), session.get_outputs()
    assert (tensor.name, tensor.datatype, tensor.format) == ("image", np.float32, Format.NCHW)
    assert (tensor.shape, tensor.size, tensor.realsize) == ([2, 3, 16, 12], 2 * IMAGE_BYTES, 2 * IMAGE_BYTES)
    assert (output.name, output.shape, output.format, output.size) == ("scores", [2, 5], Format.ND, 40)
    assert tensor.datatype.name == "float32"


def test_a_flat_feed_is_reshaped(compiled: Compile, images: np.ndarray) -> None:
    session = InferSession(0, compiled("onnxruntime", 2).path)
    expected = session.infer([images[:2]])[0]
    np.testing.assert_allclose(expected, models.expected_scores(images[:2]), rtol=1e-4, atol=1e-4)
    for flat in (
        images[:2].ravel(),
        np.frombuffer(images[:2].tobytes()),
        np.frombuffer(images[:2].tobytes(), np.uint8),
    ):
        np.testing.assert_array_equal(session.infer([flat])[0], expected)
    np.testing.assert_array_equal(session.run([images[:2]])[0], expected)
    strided = np.asfortranarray(images[:2])
    np.testing.assert_array_equal(session.infer_pipeline([[strided], [images[:2]]])[0][0], expected)


def test_loop_and_reset_show_in_the_summary(compiled: Compile, images: np.ndarray) -> None:
    session = InferSession(0, compiled("null").path, loop=3)
    session.infer([images[:1]])
    times = session.summary().exec_time_list
    assert len(times) == 3
    assert all(start <= end for start, end in times)
    assert session.sumary().exec_time_list == [end - start for start, end in times]
    session.reset_summaryinfo()
    assert session.summary().exec_time_list == []


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        (
            [np.zeros((1, 3, 16, 12))],
            "got float64 1x3x16x12, 4608 bytes, expected 'image' (float32 1x3x16x12, 2304 bytes)",
        ),
        ([np.zeros((1, 16, 12, 3), np.float32)], "got float32 1x16x12x3, 2304 bytes, expected"),
        ([np.zeros(576, np.int32)], "got int32 576, 2304 bytes, expected"),
        ([np.zeros(10, np.float32)], "got float32 10, 40 bytes, expected"),
        ([np.float32(1)], "got float32 scalar, 4 bytes, expected"),
        ([[1.0]], "got a list, expected an array for 'image'"),
        ([], "got 0 feeds, expected a list of one array"),
        (np.zeros((1, 3, 16, 12), np.float32), "got a ndarray, expected a list of one array"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(compiled: Compile, feeds: list, message: str) -> None:
    with pytest.raises(InferenceError, match=re.escape(message)):
        InferSession(0, compiled("null").path).infer(feeds)


@pytest.mark.parametrize("mode", ["dymbatch", "dymhw", "dymdims", "dymshape"])
def test_dynamic_modes_are_refused(compiled: Compile, images: np.ndarray, mode: str) -> None:
    with pytest.raises(InferenceError, match=rf"mode '{mode}': is a static model, for 'image' .*; use 'static'"):
        InferSession(0, compiled("null").path).infer([images[:1]], mode=mode)


def test_an_unknown_mode_is_refused(compiled: Compile, images: np.ndarray) -> None:
    with pytest.raises(InferenceError, match="mode 'fast': there is no such mode; use 'static'"):
        InferSession(0, compiled("null").path).infer([images[:1]], "fast")


def test_the_device_comes_first(compiled: Compile) -> None:
    path = str(compiled("null").path)
    with pytest.raises(
        TypeError, match=r"device_id comes first and is a number, got '.*write InferSession\(0, model_path\)"
    ):
        InferSession(path, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model_path comes second and is a path, got 1"):
        InferSession(0, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device_id must be 0 to 255, got 256"):
        InferSession(256, path)
    with pytest.raises(ValueError, match="loop must be at least 1, got 0"):
        InferSession(0, path, loop=0)


def test_what_has_no_counterpart_is_said(compiled: Compile, caplog: pytest.LogCaptureFixture) -> None:
    InferSession(3, compiled("null").path, acl_json_path="acl.json", debug=True)
    assert "acl_json_path=acl.json is passed over" in caplog.text
    assert "device 3: the null engine runs on this machine's processor, which all ids share" in caplog.text
    assert "input: #0 image  (1, 3, 16, 12)  float32  2304  2304" in caplog.text


def test_a_freed_session_is_closed(compiled: Compile, images: np.ndarray) -> None:
    session = InferSession(0, compiled("null").path)
    session.free_resource()
    with pytest.raises(InferenceError, match="the session is closed"):
        session.infer([images[:1]])


# The command


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outfmt", ["NPY", "BIN", "TXT"])
def test_outputs_read_back_as_the_sessions_scores(
    engine: str, outfmt: str, compiled: Compile, folder: Path, tmp_path: Path, images: np.ndarray
) -> None:
    model, suffix = compiled(engine, 2).path, outfmt.lower()
    words = ["--model", model, "--input", folder, "--output", tmp_path / "out", "--output_dirname", "d"]
    done = ais_bench(*words, f"--outfmt={outfmt}", "--loop=2", "--batchsize=2")
    assert f"[INFO] output path:{tmp_path / 'out' / 'd'}\n" in done.stdout
    directory = tmp_path / "out" / "d"
    assert sorted(path.name for path in directory.iterdir()) == [
        MARKER, *(f"{stem}_0.{suffix}" for stem in ("a", "b", "c", "d", "e.e"))
    ]  # fmt: skip
    padded = np.concatenate([images, np.zeros_like(images[:1])])
    with engines.open_model(model) as session:
        expected = np.concatenate([session.infer(padded[row : row + 2]) for row in (0, 2, 4)])[:5]
    for stem, scores in zip(("a", "b", "c", "d", "e.e"), expected, strict=True):
        np.testing.assert_array_equal(read_scores(directory / f"{stem}_0.{suffix}"), scores)
    predictions, classes = read_dump(directory)
    assert (predictions.keys, classes) == (["a", "b", "c", "d", "e.e"], models.CLASSES)
    np.testing.assert_array_equal(predictions.top[:, 0], expected.argmax(axis=1))


def test_the_figures_agree_with_each_other(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    words = ["-m", compiled("null", 2).path, "-i", folder, "-o", tmp_path, "--output_dirname", "d", "-l", 4]
    printed = ais_bench(*words, "--display_all_summary", 1).stdout
    summary = json.loads((tmp_path / "d_summary.json").read_text())
    assert list(summary) == [
        "filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency", "npu_compute_time_list", "throughput", "pid"
    ]  # fmt: skip
    compute, times = summary["NPU_compute_time"], summary["npu_compute_time_list"]
    assert list(compute) == ["min", "max", "mean", "median", "percentile(99%)", "count"]
    assert compute["count"] == len(times) == 3 * 4
    assert compute["mean"] == pytest.approx(np.mean(times))
    assert compute["percentile(99%)"] == pytest.approx(np.percentile(times, 99))
    assert summary["throughput"] == pytest.approx(1000 * (5 / 3) / compute["mean"])
    assert summary["H2D_latency"]["count"] == summary["D2H_latency"]["count"] == 3
    assert summary["H2D_latency"]["min"] > 0
    assert summary["D2H_latency"]["max"] == 0
    assert summary["args"][-2:] == ["--display_all_summary", "1"]
    assert summary["filesinfo"]["3"] == {
        "infiles": [str(folder / "d.bin")],
        "outfiles": [str(tmp_path / "d" / "d_0.bin")],
    }
    five = ", ".join(rf"{re.escape(key)} = \S+" for key in list(compute)[:-1])
    for name in ("H2D_latency", "NPU_compute_time", "D2H_latency"):
        assert re.search(rf"^\[INFO\] {name} \(ms\): {five}$", printed, re.MULTILINE)
    line = f"[INFO] throughput 1000*batchsize.mean({5 / 3})/NPU_compute_time.mean({compute['mean']}): {summary['throughput']}"
    assert line in printed.splitlines()


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_without_input_it_is_pure_inference(kind: str, compiled: Compile, tmp_path: Path) -> None:
    words = ["--model", compiled("null", 2).path, "--loop", 5, "--warmup_count", 2, "--pure_data_type", kind]
    printed = ais_bench(*words, "--output", tmp_path).stdout
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert re.fullmatch(r"\d{4}(_\d\d){2}-\d\d(_\d\d){2}", directory.name)
    scores = read_scores(directory / "pure_infer_data_0.bin")
    assert scores.size == 2 * models.CLASSES
    assert scores.any() == (kind == "random")
    summary = json.loads((tmp_path / f"{directory.name}_summary.json").read_text())
    assert summary["NPU_compute_time"]["count"] == 5
    assert summary["H2D_latency"]["count"] == 1
    assert summary["throughput"] == pytest.approx(2000 / summary["NPU_compute_time"]["mean"])
    assert "[INFO] -----------------Performance Summary------------------\n" in printed
    assert "[INFO] throughput 1000*batchsize.mean(2)/NPU_compute_time.mean(" in printed


def test_without_output_nothing_is_written(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run(compiled("null").path, AisOptions(input=str(folder)))
    assert (result.output, result.summary) == (None, None)
    assert result.files["0"] == {"infiles": [str(folder / "a.npy")], "outfiles": []}
    assert sorted(tmp_path.rglob("*")) == before


def test_two_runs_of_one_second_have_two_directories(compiled: Compile, tmp_path: Path) -> None:
    options = AisOptions(output=tmp_path)
    first, second = (run(compiled("null").path, options) for _ in range(2))
    assert first.output != second.output
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("mode", ["array", "files", "tensor", "full"])
def test_every_run_mode_gives_the_same(mode: str, compiled: Compile, folder: Path, tmp_path: Path) -> None:
    options = AisOptions(input=str(folder), output=tmp_path, output_dirname="d", run_mode=mode)
    run(compiled("null").path, options)
    image = np.load(folder / "a.npy")
    np.testing.assert_allclose(read_scores(tmp_path / "d" / "a_0.bin"), models.null_scores(image[None])[0], rtol=1e-4)


def test_files_may_be_listed_and_hold_whole_batches(compiled: Compile, tmp_path: Path, images: np.ndarray) -> None:
    model = compiled("onnxruntime", 2)
    np.save(tmp_path / "x.npy", images[:2])
    images[2:4].tofile(tmp_path / "w.bin")
    text = f"{tmp_path / 'x.npy'},{tmp_path / 'w.bin'}"
    result = run(model.path, AisOptions(input=text, output=tmp_path, output_dirname="d", outfmt="NPY"))
    assert [device.images for device in result.devices] == [[2, 2]]
    for stem, rows in (("x", images[:2]), ("w", images[2:4])):
        scores = np.load(tmp_path / "d" / f"{stem}_0.npy")
        assert scores.shape == (2, models.CLASSES)
        np.testing.assert_allclose(scores, models.expected_scores(rows), rtol=1e-4, atol=1e-4)


def test_one_images_npy_keeps_its_axis_of_one(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    run(compiled("null", 4).path, AisOptions(input=str(folder), output=tmp_path, output_dirname="d", outfmt="NPY"))
    assert np.load(tmp_path / "d" / "e.e_0.npy").shape == (1, models.CLASSES)


def test_devices_share_the_inputs(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    model = compiled("onnxruntime").path
    words = ["--model", model, "--input", folder, "--output", tmp_path]
    one, two = ais_bench(*words, "--output_dirname", "one"), ais_bench(*words, "--output_dirname=two", "--device=0,1")
    assert one.stderr == ""
    assert "warning: device 1: ONNX Runtime runs on this machine's processor, which all ids share" in two.stderr
    outputs = sorted(path.name for path in (tmp_path / "one").glob("*.bin"))
    assert len(outputs) == 5
    assert sorted(path.name for path in (tmp_path / "two").glob("*.bin")) == outputs
    for name in outputs:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    summary = json.loads((tmp_path / "two_summary.json").read_text())
    assert [device["count"] for device in summary["devices"]] == [3, 2]
    assert summary["NPU_compute_time"]["count"] == 5
    assert summary["throughput"] == pytest.approx(sum(device["throughput"] for device in summary["devices"]))
    assert re.search(r"^\[INFO\] i:1 device_1 throughput:\S+ start_time:\S+ end_time:\S+$", two.stdout, re.MULTILINE)
    assert f"[INFO] summary throughput:{summary['throughput']}" in two.stdout


def test_a_device_may_have_nothing_to_do(compiled: Compile, folder: Path) -> None:
    result = run(compiled("null", 4).path, AisOptions(input=str(folder / "a.npy"), device=(0, 1)))
    assert [len(device.compute) for device in result.devices] == [1, 0]
    assert result.throughput == result.devices[0].throughput
    assert result.lines()[-2].startswith("[INFO] i:1 device_1 throughput:0.0 ")


def test_outputs_of_an_earlier_run_are_replaced(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    model = compiled("null").path
    run(model, AisOptions(input=str(folder), output=tmp_path, output_dirname="d"))
    run(model, AisOptions(input=str(folder / "a.npy"), output=tmp_path, output_dirname="d"))
    assert [path.name for path in (tmp_path / "d").glob("*.bin")] == ["a_0.bin"]


def test_what_is_not_ours_is_not_replaced(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    options = AisOptions(input=str(folder), output=tmp_path, output_dirname="inputs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=rf"inputs: holds other files \({MARKER} is not among them\)"):
        run(compiled("null").path, options)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "d_summary.json").write_text("[1]")
    with pytest.raises(OutputError, match=r"d_summary.json: exists and is no summary of ais_bench"):
        run(compiled("null").path, AisOptions(input=str(folder), output=tmp_path, output_dirname="d"))
    assert (tmp_path / "d_summary.json").read_text() == "[1]"
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("devices", [(0,), (0, 1)])
def test_a_failed_run_leaves_nothing(
    devices: tuple[int, ...], compiled: Compile, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPORT_NULL_FAULT", "infer-raise:2")
    options = AisOptions(input=str(folder), output=tmp_path / "out", output_dirname="d", device=devices)
    with pytest.raises(InferenceError, match="the null engine failed"):
        run(compiled("null").path, options)
    assert list((tmp_path / "out").iterdir()) == []


# What it refuses


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: None, "holds no input files (.npy, .bin)"),
        (lambda d: (d / "a.bin").write_bytes(b"1234"), "a.bin: got 4 bytes, expected 2304 bytes (float32 1x3x16x12) or "
         "4608 bytes (float32 2x3x16x12)"),
        (lambda d: np.save(d / "a.npy", np.zeros((3, 16, 12))), "a.npy: got float64 3x16x12, 4608 bytes, expected 2304"),
        (lambda d: np.save(d / "a.npy", np.zeros((3, 3, 16, 12), np.float32)), "a.npy: got float32 3x3x16x12, 6912 bytes"),
        (lambda d: np.save(d / "a.npy", np.array([{}]), allow_pickle=True), "a.npy: cannot be read as a NumPy array: "),
        (lambda d: (d / "a.npy").write_bytes(b"no array"), "a.npy: cannot be read as a NumPy array: "),
        (lambda d: (d / "a.npy").write_bytes(b""), "a.npy: cannot be read as a NumPy array: "),
        (lambda d: (d / "a.txt").write_text("1"), "a.txt: unknown kind of input '.txt', expected .npy or .bin"),
        (lambda d: (d / "a.bin").mkdir(), "a.bin: is no file; inputs are .npy or .bin files"),
        (lambda d: [(d / f"a.{suffix}").write_bytes(bytes(IMAGE_BYTES)) for suffix in ("bin", "npy")],
         "outputs are named by the stem, which both have; rename one"),
        (lambda d: [(d / f"{n}.bin").write_bytes(bytes(n * IMAGE_BYTES)) for n in (1, 2)],
         "1.bin: holds one image, but 2.bin a batch of 2; run them separately"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(compiled: Compile, tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    make(inputs)
    with pytest.raises((DataError, FormatError)) as caught:
        run(compiled("null", 2).path, AisOptions(input=str(inputs), output=tmp_path / "out"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_savez_archive_is_refused(compiled: Compile, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(FormatError, match=r"a.npy: is an archive of arrays, expected one array"):
        FileInput(str(tmp_path / "a.npy"), compiled("null").manifest.input)


def test_a_file_that_changes_after_the_check_is_refused(compiled: Compile, folder: Path) -> None:
    source = FileInput(str(folder), compiled("null", 4).manifest.input)
    (folder / "d.bin").write_bytes(b"1234")
    with pytest.raises(FormatError, match=r"d.bin: got uint8 4, 4 bytes, expected 2304 bytes"):
        source.load(source.batches[0])
    (folder / "d.bin").unlink()
    with pytest.raises(FormatError, match=r"d.bin: cannot be read: No such file"):
        source.load(source.batches[0])


def test_the_command_tells_errors_in_one_line(compiled: Compile, folder: Path, tmp_path: Path) -> None:
    model = compiled("null", 2).path
    assert "no.om: is not an offline model (does not exist)" in fail("--model", tmp_path / "no.om", "--input", folder)
    assert "--batchsize 4, but the model's is 2; leave" in fail("--model", model, "--batchsize", 4)
    assert "no.bin: does not exist; inputs are .npy or .bin" in fail(
        "--model", model, "--input", f"{folder / 'd.bin'},no.bin"
    )
    two = fail("--model", model, "--input", f"{folder},{tmp_path}")
    assert "the model has one input, so give one directory, got 2" in two


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "0,x"], "'0,x': expected different numbers from 0"),
        (["--device", "1,1"], "'1,1': expected different numbers from 0"),
        (["--output_dirname", "d"], "--output_dirname names a directory inside --output; give that too"),
        (["--output", ".", "--output_dirname", "../d"], "expected the name of one directory inside --output"),
        (["--outfmt", "CSV"], "'CSV' is not one of"),
        (["--loop", "0"], "--loop"),
    ],
)
def test_wrong_usage_is_told(words: list[str], message: str) -> None:
    assert message in ais_bench("--model", "m.om", *words, code=2).stderr
