"""`compile --dry-run`, `--aipp` and `--device` through the entry point; Ascend is a stand-in, never a device."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image

from modelport.graph.aipp import Aipp
from modelport.measure import doctor
from modelport.spec import Precision

MODELPORT = Path(sys.executable).with_name("modelport")
CHIP = ["--engine", "ascend", "--soc-version", "Ascend310"]


def modelport(*words: object, code: int = 0, bare: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command; `bare` takes PATH away, so that no atc can be found."""
    environment = os.environ | ({"PATH": "/nonexistent"} if bare else {})
    line = [str(MODELPORT), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def here(tmp_path, tiny_onnx) -> Path:
    """A folder with the tiny classifier alone."""
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    return tmp_path


def test_a_dry_run_prints_the_exact_command_without_cann_and_writes_nothing(here):
    done = modelport("compile", here / "tiny.onnx", *CHIP, "--batch-size", 4, "--dry-run", "-o", here / "o", bare=True)

    assert done.stdout == (
        f"atc --framework=5 --model={here}/tiny.onnx --input_format=NCHW --input_shape=image:4,3,16,12 --output=./model "
        "--log=error --soc_version=Ascend310 --precision_mode=force_fp16\n"
    )
    assert done.stderr == ""
    assert [entry.name for entry in here.iterdir()] == ["tiny.onnx"]


def test_a_dry_run_with_aipp_prints_its_configuration_too(here):
    words = ["compile", here / "tiny.onnx", *CHIP, "--aipp", "--atc-log", "debug", "--dry-run"]
    line, empty, comment, *config = modelport(*words, bare=True).stdout.splitlines()

    assert "--insert_op_conf=./aipp.cfg" in shlex.split(line)
    assert "--log=debug" in shlex.split(line)
    assert (empty, comment) == ("", "# aipp.cfg")
    assert "\n".join(config) + "\n" == Aipp.of(models.PREPROCESS).config()
    document = json.loads(modelport(*words, "--json", bare=True).stdout)
    assert document == {
        "command": line,
        "arguments": shlex.split(line),
        "files": {"aipp.cfg": Aipp.of(models.PREPROCESS).config()},
    }


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "null"])
def test_a_dry_run_is_wrong_usage_for_engines_without_a_command(here, engine):
    done = modelport("compile", here / "tiny.onnx", "--engine", engine, "--dry-run", code=2)

    assert f"--dry-run prints a compiler's command, and {engine} compiles by none; it is for ascend." in done.stderr
    assert done.stdout == ""


def test_only_a_dry_run_goes_without_an_output(here):
    assert "Missing option '-o'" in modelport("compile", here / "tiny.onnx", "--engine", "null", code=2).stderr


def test_errors_are_one_line(here):
    for words, message in (
        (CHIP, "atc is neither on PATH, nor in"),
        (["--engine", "ascend"], "pass --soc-version, such as Ascend310"),
        ([*CHIP, "--precision", "f32"], "does not offer f32 here; it offers fp16"),
        (["--engine", "null", "--aipp"], "compiles for this machine's processor"),
    ):
        done = modelport("compile", here / "tiny.onnx", *words, "-o", here / "out", code=1, bare=True)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_compile_infer_and_bench_on_several_devices(here, ascend):
    ascend("ais_bench")
    done = modelport("compile", here / "tiny.onnx", *CHIP, "--aipp", "--batch-size", 2, "-o", here / "uint8", "--json")
    manifest = json.loads(done.stdout)
    assert (manifest["device"], manifest["precision"]["executed"]) == ("Ascend310", "fp16")
    assert (manifest["input"]["dtype"], manifest["input"]["layout"]) == ("uint8", "NHWC")
    assert done.stderr == f"modelport: compiling with: {(here / 'uint8' / 'atc.txt').read_text()}"

    (here / "pictures").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(here / "pictures" / f"{number}.png")
    words = [
        "infer",
        here / "uint8",
        "--images",
        here / "pictures",
        "--device",
        "0,1,2,3",
        "-o",
        here / "out",
        "--json",
    ]
    document = json.loads(modelport(*words).stdout)
    assert (document["images"], document["failures"], document["devices"]) == (5, 0, [0, 1, 2, 3])
    assert next(stage["workers"] for stage in document["stages"] if stage["name"] == "infer") == 4

    modelport("compile", here / "tiny.onnx", *CHIP, "-o", here / "float")
    words = ["bench", here / "float", "--rounds", 4, "--warmup", 1, "--device", "1,3", "--json"]
    assert json.loads(modelport(*words).stdout)["devices"] == [1, 3]


@pytest.mark.parametrize("text", ["", "a", "0,", "1,1", "-1", "0;1"])
def test_device_numbers_that_are_none_are_wrong_usage(here, text):
    done = modelport("bench", here, "--device", text, code=2)

    assert "expected different numbers from 0, such as 0 or 0,1,2,3" in done.stderr


def test_a_processors_devices_are_parts_of_its_cores(compiled):
    done = modelport("bench", compiled("onnxruntime").path, "--device", "0,5", code=1)

    assert "whose devices are parts of its cores: 2 of them are 0,1, not 0,5" in done.stderr


def test_doctor_says_what_ascend_lacks_and_tries_it_where_it_is_there(ascend, monkeypatch):
    monkeypatch.setattr(doctor, "names", lambda: ["ascend"])

    def check() -> doctor.EngineCheck:
        (found,) = doctor.examine().engines
        return found

    assert "compiler atc is neither on PATH" in check().problem
    ascend("ais_bench")
    assert "pass --soc-version" in check().problem
    ascend("ais_bench", "acl")
    monkeypatch.setenv("STANDIN_SOC", "Ascend310")
    assert (check().executed, check().problem) == (Precision.FP16, None)
