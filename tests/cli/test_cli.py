"""The command line through its entry point: exit codes, JSON documents, one-line errors, help."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image

from modelport.cli import _COMMANDS
from modelport.cli.shared import INTERPOLATIONS, PRECISIONS
from modelport.spec import Interpolation, Precision

MODELPORT = Path(sys.executable).with_name("modelport")


def modelport(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    line = [str(MODELPORT), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=200)


def succeed(*words: object) -> dict:
    done = modelport(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fail(*words: object, code: int = 1, env: dict[str, str] | None = None) -> str:
    done = modelport(*words, env=env)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, labels, and an offline model of the tiny classifier, all made by commands."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for number in range(7):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / "pictures" / f"{number}.png")
        lines.append(f"{number}.png {number % models.CLASSES}\n")
    (folder / "labels.txt").write_text("".join(lines))
    models.save(models.classifier(), folder / "tiny.onnx")
    words = ["--engine", "onnxruntime", "--precision", "f32", "--batch-size", 3]
    succeed("compile", folder / "tiny.onnx", *words, "-o", folder / "offline")
    succeed("infer", folder / "offline", "--images", folder / "pictures", "-o", folder / "out")
    return folder


@pytest.mark.parametrize("command", [None, *_COMMANDS])
def test_every_command_has_help_from_its_docstring(command: str | None) -> None:
    done = modelport(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "Usage: modelport" in done.stdout
    assert len(done.stdout.splitlines()) > 5
    if command not in (None, "guide", "completion"):  # the originals' flags and output; a script
        assert "--json" in done.stdout


def test_choices_are_those_of_the_library() -> None:
    assert tuple(Precision) == PRECISIONS
    assert tuple(Interpolation) == INTERPOLATIONS


def test_version() -> None:
    assert re.fullmatch(r"modelport \d+\.\d+\.\d+\n", modelport("--version").stdout)


def test_usage_errors_exit_2_with_a_suggestion() -> None:
    assert "Did you mean 'export'?" in fail("exprot", code=2)
    assert "No such option" in fail("bench", "model", "--rouns", "3", code=2)
    assert "either --checkpoint FILE or --random-weights" in fail(
        "export", "--arch", "resnet18", "-o", "x.onnx", code=2
    )


def test_export_document(tmp_path: Path) -> None:
    words = ["--arch", "resnet10t", "--random-weights", "--num-classes", 4, "--input-size", 64, "--opset", 11]
    document = succeed("export", *words, "-o", tmp_path / "m.onnx")
    assert document["opset"] == 11
    assert document["model"]["num_classes"] == 4
    assert document["model"]["preprocess"]["input_size"] == [3, 64, 64]
    assert document["parity"]["passed"]
    assert any("random weights" in line for line in document["warnings"])
    assert "exists already" in fail("export", *words, "-o", tmp_path / "m.onnx")


def test_export_takes_single_preprocessing_flags_over_timms_default(tmp_path: Path) -> None:
    words = ["--arch", "resnet10t", "--random-weights", "--input-size", 64, "--crop-pct", 0.5, "--mean", "0.1,0.2,0.3"]
    document = succeed("export", *words, "-o", tmp_path / "m.onnx")
    preprocess = document["model"]["preprocess"]
    assert (preprocess["crop_pct"], preprocess["mean"]) == (0.5, [0.1, 0.2, 0.3])
    assert preprocess["std"] == [0.229, 0.224, 0.225]
    assert "expected numbers with commas" in fail("export", *words, "--std", "a,b", "-o", tmp_path / "n.onnx", code=2)


def test_compile_needs_preprocessing_from_somewhere(tmp_path: Path) -> None:
    models.save(models.classifier(spec=None), tmp_path / "any.onnx")
    words = ["compile", tmp_path / "any.onnx", "--engine", "null"]
    assert "carries no preprocessing" in fail(*words, "-o", tmp_path / "a")
    height = fail(*words, "-o", tmp_path / "a", "--preprocess", "imagenet", "--input-size", 16)
    assert "has W=12, the preprocessing prepares W=16" in height
    assert not (tmp_path / "a").exists()


def test_compile_says_what_really_runs(road: Path) -> None:
    manifest = json.loads((road / "offline" / "manifest.json").read_text())
    assert manifest["precision"] == {"requested": "f32", "executed": "f32", "rest": None}
    assert manifest["batch_size"] == 3


def test_infer_document(road: Path, tmp_path: Path) -> None:
    words = ["infer", road / "offline", "--images", road / "pictures", "--labels", road / "labels.txt"]
    document = succeed(*words, "--limit", 5, "-o", tmp_path / "out")
    assert (document["images"], document["failures"], document["limit"]) == (5, 0, 5)
    assert document["e2e"].keys() == {"throughput", "wall_s"}
    assert document["interface"]["throughput"] > 0
    assert [stage["name"] for stage in document["stages"]] == ["read", "decode", "batch", "infer", "post"]
    assert all(
        {"items", "busy_s", "blocked_get_s", "blocked_put_s", "failures"} <= stage.keys()
        for stage in document["stages"]
    )
    assert (tmp_path / "out" / "predictions.parquet").exists()


def test_evaluate_document_and_files(road: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    document = succeed("evaluate", road / "out", "--labels", road / "labels.txt", "-o", output)
    assert (document["images"], document["classes"]) == (7, models.CLASSES)
    assert len(document["topn"]) == len(document["interval95"]) == 5
    assert document["topn"] == sorted(document["topn"])
    assert (document["missing"], document["extra"]) == (0, 0)
    guide = json.loads(output.read_text())
    assert guide["value"][0] == {"key": "Number of images", "value": "7"}
    assert json.loads((tmp_path / "result.accuracy.json").read_text()) == document


def test_evaluate_warns_of_missing_and_extra(road: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0.png 0\nabsent.png 1\n")
    done = modelport("evaluate", road / "out", "--labels", tmp_path / "labels.txt", "--json")
    document = json.loads(done.stdout)
    assert (document["images"], document["missing"], document["extra"]) == (2, 1, 6)
    assert "1 without a prediction counted as wrong (first: absent)" in done.stderr


def test_bench_document(road: Path) -> None:
    document = succeed("bench", road / "offline", "--rounds", 4, "--warmup", 2)
    assert (document["rounds"], document["warmup"], document["batch_size"]) == (4, 2, 3)
    assert document["latency_ms"].keys() == {"mean", "p50", "p90", "p95", "p99", "max"}
    assert (document["engine"], document["precision"], document["executed_precision"]) == ("onnxruntime", "f32", "f32")
    assert document["throughput"] > 0
    both = succeed("bench", road / "offline", road / "offline", "--rounds", 1)
    assert isinstance(both, list)
    assert len(both) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["infer", "{road}/pictures", "--images", "{road}/pictures", "-o", "{tmp}/o"],
            "is not an offline model (has no manifest.json)",
        ),
        (["infer", "{road}/offline", "--images", "{tmp}", "-o", "{tmp}/o"], "holds no images"),
        (["infer", "{road}/offline", "--images", "{tmp}/none", "-o", "{tmp}/o"], "no such file or folder"),
        (
            ["infer", "{road}/offline", "--images", "{road}/pictures", "--limit", "1", "-o", "{road}/out"],
            "finished run",
        ),
        (["infer", "{road}/offline", "--images", "{road}/pictures", "--force", "-o", "{road}"], "holds other files"),
        (["evaluate", "{road}/out", "--labels", "{tmp}/none.txt"], "none.txt: cannot be read"),
        (["evaluate", "{road}", "--labels", "{road}/labels.txt"], "infer.json: cannot be read"),
        (["bench", "{tmp}/none"], "is not an offline model (does not exist)"),
        (["compile", "{road}/labels.txt", "--engine", "null", "-o", "{tmp}/o"], "is not an ONNX file"),
        (["compile", "{road}/tiny.onnx", "--engine", "opnvino", "-o", "{tmp}/o"], "did you mean 'openvino'"),
        (["run", "{tmp}/none.yaml", "--out", "{tmp}/o"], "none.yaml: cannot be read"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(road: Path, tmp_path: Path, words: list[str], message: str) -> None:
    stderr = fail(*(word.format(road=road, tmp=tmp_path) for word in words))
    assert message in stderr
    assert stderr.startswith("modelport: error: ")
    assert len(stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_labels_out_of_range(road: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0.png 99\n")
    assert "has label 99, the model has classes 0 to 4" in fail(
        "evaluate", road / "out", "--labels", tmp_path / "labels.txt"
    )


def test_a_compiler_that_dies_is_an_error_message(road: Path, tmp_path: Path) -> None:
    words = ["compile", road / "tiny.onnx", "--engine", "null", "-o", tmp_path / "o"]
    assert "compiler died (SIGSEGV)" in fail(*words, env={"MODELPORT_NULL_FAULT": "compile-signal"})
    assert not list(tmp_path.iterdir())


def test_an_engine_that_fails_leaves_no_result_and_the_same_command_goes_on(road: Path, tmp_path: Path) -> None:
    succeed("compile", road / "tiny.onnx", "--engine", "null", "--batch-size", 2, "-o", tmp_path / "null")
    one_by_one = ["--streams", 1, "--decoders", 1]  # else a later batch may be done, and fail, before an earlier one
    words = ["infer", tmp_path / "null", "--images", road / "pictures", "-o", tmp_path / "out", *one_by_one]
    assert "the null engine failed" in fail(*words, env={"MODELPORT_NULL_FAULT": "infer-raise:3"})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".parts"}
    assert succeed(*words)["kept"] == 4


def test_a_failed_gate_exits_3(road: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: gate\nmodel: {{onnx: {road}/tiny.onnx}}\ndata: {{images: {road}/pictures, labels: {road}/labels.txt}}\n"
        'targets: [{engine: "null"}]\naccuracy: {recorded: {source: a dream, top1: 101}, against_source: false}\n'
        "performance: {batch_sizes: [1], rounds: 1}\n"
    )
    done = modelport("run", recipe, "--out", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "FAILED: null-f32 did not pass its gate" in done.stdout
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    assert document["targets"][0]["gate"]["passed"] is False
    relaxed = modelport(
        "run", recipe, "--out", tmp_path / "out", "--set", "accuracy.tolerance_points=100", "--limit", 6, "--json"
    )
    assert relaxed.returncode == 0, relaxed.stderr
    assert json.loads(relaxed.stdout)["targets"][0]["accuracy"]["not_requested"] == 1


def test_interrupting_leaves_nothing_half_written(road: Path, tmp_path: Path) -> None:
    words = ["export", "--arch", "cspresnext50", "--random-weights", "-o", str(tmp_path / "m.onnx")]
    child = subprocess.Popen([str(MODELPORT), *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()), "the export did not begin"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "interrupted; nothing half-written was left behind" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


def test_on_a_terminal_a_long_run_shows_a_bar(road: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    pixels.save(tmp_path / "one.png")
    for number in range(60):
        (tmp_path / "many" / f"{number}.png").symlink_to(tmp_path / "one.png")
    ours, theirs = pty.openpty()
    words = [
        "infer",
        road / "offline",
        "--images",
        tmp_path / "many",
        "--decoders",
        1,
        "-o",
        tmp_path / "out",
        "--json",
    ]
    child = subprocess.Popen([str(MODELPORT), *map(str, words)], stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    stdout, _ = child.communicate(timeout=100)
    assert b"infer onnxruntime-f32" in shown
    assert json.loads(stdout)["images"] == 60
