"""`loadgen`: MLCommons' own LoadGen, really run, over the null engine and over the digits' model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner
from places import ROOT

from modelport.accuracy import evaluate
from modelport.cli import cli
from modelport.data.predictions import Predictions
from modelport.engines.session import SessionOptions
from modelport.errors import DataError, EngineUnavailableError, InferenceError, OutputError
from modelport.inference import infer
from modelport.mlperf import run as mlperf_run
from modelport.mlperf.run import loadgen
from modelport.mlperf.settings import LoadGenOptions
from modelport.results import Accuracy, LoadGenResult

LOGS = {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json", "user.conf"}


def quick(scenario: str, **more: object) -> LoadGenOptions:
    return LoadGenOptions(scenario=scenario, quick=True, **more)


@pytest.fixture(scope="module")
def inferred(compiled, pictures, tmp_path_factory):
    """What `infer` and `evaluate` say of the null engine, batch 3."""
    output = tmp_path_factory.mktemp("inferred") / "out"
    infer(compiled("null", 3), pictures, output)
    return output, evaluate(output, pictures.parent / "labels.txt")


# Offline: more images a second than two milliseconds a batch allow, so that it cannot end too soon, whatever the machine does.
@pytest.mark.parametrize(("scenario", "batch", "more"), [("Offline", 3, {"target_qps": 4000}), ("SingleStream", 1, {})])
def test_a_quick_run_is_valid_and_marked(compiled, pictures, tmp_path, monkeypatch, scenario, batch, more):
    monkeypatch.setenv(
        "MODELPORT_NULL_FAULT", "infer-slow:2"
    )  # milliseconds a batch: so long that Python costs little beside it
    told = []
    result = loadgen(
        compiled("null", batch), pictures, tmp_path / "out", options=quick(scenario, session=SessionOptions(streams=2), **more),
        progress=lambda *so_far: told.append(so_far),
    )  # fmt: skip

    assert (result.valid, result.reasons, result.errors) == (True, (), ())
    assert result.verdict == "VALID (quick settings, unofficial)"
    assert result.deviations[0].startswith("quick: at least 1 s and ")
    assert result.deviations[1].startswith("20 images; MLPerf has")
    assert (result.images, result.accuracy, result.mode) == (20, None, "performance")
    assert result.figure.value > 0
    assert result.samples >= 64
    assert result.latency_ms["min"] <= result.latency_ms["p50"] <= result.latency_ms["max"]
    assert (result.settings["min_duration_ms"], result.settings["scenario"]) == (1000, scenario)
    assert result.settings["performance_sample_count"] == 20
    assert LoadGenResult.read(tmp_path / "out" / "loadgen.json") == result
    assert set(result.logs) >= LOGS
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*result.logs, "loadgen.json"}
    summary = (tmp_path / "out" / "mlperf_log_summary.txt").read_text()
    assert f"Scenario : {scenario}\n" in summary
    assert "Result is : VALID" in summary
    assert (tmp_path / "out" / "user.conf").read_text().startswith("# Quick settings: an unofficial run.\n")
    assert any(what.startswith(f"loadgen {scenario}: ") for what, _, _ in told)


@pytest.mark.parametrize("scenario", ["Offline", "MultiStream"])
def test_accuracy_is_that_of_evaluate(compiled, pictures, tmp_path, inferred, scenario):
    """MultiStream asks in eights and fills its last query up with images that it has asked for already."""
    directory, accuracy = inferred
    labels = pictures.parent / "labels.txt"
    options = quick(scenario, accuracy=True)
    result = loadgen(compiled("null", 3), pictures, tmp_path / "out", options=options, labels=labels)

    assert result.accuracy == accuracy
    assert (result.valid, result.figure, result.verdict) == (None, None, "accuracy run (quick settings, unofficial)")
    ours = Predictions.read(tmp_path / "out" / "predictions.parquet")
    theirs = Predictions.read(directory / "predictions.parquet")
    assert ours.keys == theirs.keys
    assert (ours.top == theirs.top).all()
    assert ours.labels == [place % 5 for place in range(20)]
    assert evaluate(tmp_path / "out", labels) == accuracy


def test_images_that_a_limit_leaves_out_are_not_counted(compiled, pictures, tmp_path, caplog):
    labels = pictures.parent / "labels.txt"
    options = quick("Offline", accuracy=True, limit=7)
    result = loadgen(compiled("null", 3), pictures, tmp_path / "out", options=options, labels=labels)
    assert (result.images, result.accuracy.images, result.accuracy.not_requested) == (7, 7, 13)
    assert "only the first 7 images" in result.deviations


def test_without_labels_the_predictions_are_kept(compiled, pictures, tmp_path, caplog):
    loadgen(compiled("null", 1), pictures, tmp_path / "out", options=quick("SingleStream", accuracy=True))
    assert "`modelport evaluate OUT --labels FILE` counts them" in caplog.text
    assert evaluate(tmp_path / "out", pictures.parent / "labels.txt").images == 20


def test_the_digits_are_valid_and_as_accurate_as_evaluate_says(demo_directory, tmp_path):
    home, val = demo_directory / "openvino-f32", ROOT / ".demo" / "digits" / "val"
    offline = loadgen(home / "batch-8", val, tmp_path / "offline", options=quick("Offline"))
    single = loadgen(home / "batch-1", val, tmp_path / "single", options=quick("SingleStream"))
    assert (offline.valid, single.valid) == (True, True), (offline.reasons, single.reasons)
    labels = val.with_name("val_label.txt")
    options = quick("Offline", accuracy=True)
    result = loadgen(home / "batch-8", val, tmp_path / "accuracy", options=options, labels=labels)
    assert result.accuracy.hits == Accuracy.read(home / "accuracy.json").hits
    assert result.accuracy == evaluate(home / "predictions", labels)


def test_server_that_cannot_keep_its_bound_is_invalid_and_says_why(compiled, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELPORT_NULL_FAULT", "infer-slow:3")
    words = ["--scenario", "Server", "--target-qps", 90, "--target-latency", 2, "--quick", "--images", pictures]
    done = modelport(compiled("null").path, *words, "-o", tmp_path / "out", code=3)

    document = json.loads(done.stdout)
    assert (document["valid"], document["quick"]) == (False, True)
    assert document["verdict"] == "INVALID (quick settings, unofficial)"
    assert "the bound is 2 ms: ask for fewer queries a second" in document["reasons"][0]
    assert "latency bound 2 ms, not 15 ms" in document["deviations"]
    assert json.loads((tmp_path / "out" / "loadgen.json").read_text()) == document


# -- what ends a run


def test_an_engine_that_fails_ends_the_run(compiled, pictures, tmp_path, monkeypatch):
    """It fails at an image, not at the noise of the warmup: in a worker, while LoadGen waits for its answer."""
    monkeypatch.setenv("MODELPORT_NULL_FAULT", "infer-raise:>0.5")
    with pytest.raises(InferenceError, match="the null engine failed"):
        loadgen(compiled("null", 3), pictures, tmp_path / "out", options=quick("Offline"))
    assert not list(tmp_path.iterdir())


def test_a_process_that_dies_is_one_line(compiled, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELPORT_NULL_FAULT", "infer-signal:>0.5")
    with pytest.raises(
        InferenceError, match=r"the process of LoadGen and the engine died \(SIGSEGV\).*modelport bench"
    ):
        loadgen(compiled("null"), pictures, tmp_path / "out", options=quick("SingleStream"))
    assert not list(tmp_path.iterdir())


def test_an_image_that_cannot_be_read_ends_the_run(compiled, pictures, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for place, path in enumerate(sorted(pictures.iterdir())[:3]):
        (folder / path.name).write_bytes(path.read_bytes()[: 60 if place == 1 else None])
    with pytest.raises(DataError, match=r"0001\.png: .*; LoadGen knows no image that fails: mend it"):
        loadgen(compiled("null"), folder, tmp_path / "out", options=quick("Offline"))
    assert not (tmp_path / "out").exists()


def test_existing_output_is_not_replaced(compiled, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        loadgen(compiled("null"), pictures, tmp_path / "out", options=quick("Offline"))
    with pytest.raises(OutputError, match=r"holds other files \(loadgen\.json is not among them\)"):
        loadgen(compiled("null"), pictures, tmp_path / "out", options=quick("Offline"), force=True)


def test_loadgen_that_is_not_installed_names_the_extra(compiled, pictures, tmp_path, monkeypatch):
    def absent(name):
        raise mlperf_run.PackageNotFoundError(name)

    monkeypatch.setattr(mlperf_run, "version", absent)
    with pytest.raises(
        EngineUnavailableError, match=r"LoadGen .* is not installed: pip install 'modelport\[loadgen\]'"
    ):
        loadgen(compiled("null"), pictures, tmp_path / "out", options=quick("Offline"))


def test_more_images_than_memory_holds_are_refused(compiled, pictures, tmp_path, monkeypatch):
    class Full:
        available = 1000

    monkeypatch.setattr(mlperf_run.psutil, "virtual_memory", Full)
    with pytest.raises(DataError, match=r"20 prepared images are .* GB, .* compile the model with --input uint8"):
        loadgen(compiled("null"), pictures, tmp_path / "out", options=quick("Offline"))


def test_a_batch_that_does_not_suit_the_scenario_is_told(compiled, pictures, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mlperf_run, "_run", lambda *_: (_ for _ in ()).throw(InferenceError("not run")))
    for scenario, words in (("SingleStream", "compile it for batch 1"), ("MultiStream", "compile it for batch 8")):
        with pytest.raises(InferenceError, match="not run"):
            loadgen(compiled("null", 3), pictures, tmp_path / "out", options=quick(scenario))
        assert words in caplog.text


def test_interrupting_says_so_and_leaves_nothing(compiled, pictures, tmp_path):
    words = ["--scenario", "SingleStream", "--images", pictures, "-o", tmp_path / "out"]
    line = [sys.executable, "-m", "modelport", "loadgen", compiled("null").path, *words]
    child = subprocess.Popen([*map(str, line)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.rglob("mlperf_log_detail.txt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.rglob("mlperf_log_detail.txt")), "the test did not begin"
    below = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)

    assert child.returncode == 130, stderr
    assert "interrupted; nothing half-written was left behind" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())
    assert below
    assert [process for process in below if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


# -- the command


def modelport(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "modelport", "loadgen", *map(str, words), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "Server"], "--scenario Server needs --target-qps"),
        (
            ["--scenario", "MultiStream", "--target-qps", "5"],
            "--target-qps is for Server and Offline, not for MultiStream",
        ),
        (["--scenario", "Offline", "--target-latency", "5"], "--target-latency is for Server, not for Offline"),
        (["--scenario", "Server", "--target-qps", "5", "--target-latency", "0.5"], "is not a valid integer range"),
        (["--scenario", "Offline", "--labels", "l.txt"], "--labels goes with --accuracy"),
        (["--scenario", "Online"], "Invalid value for '--scenario'"),
    ],
)
def test_wrong_usage(words, message):
    done = CliRunner().invoke(cli, ["loadgen", "model", "--images", "images", "-o", "out", *words])
    assert done.exit_code == 2
    assert message in done.output


def test_a_model_that_is_none(tmp_path):
    words = ["--scenario", "Offline", "--images", tmp_path, "-o", tmp_path / "out"]
    assert "is not an offline model" in modelport(tmp_path / "none", *words, code=1).stderr
