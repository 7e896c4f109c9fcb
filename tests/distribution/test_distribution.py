"""What is shipped: a wheel and an sdist that install outside the checkout, and a core that runs without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image
from places import ROOT

import modelport
from modelport import engines

ENGINE = "onnxruntime"
NO_INDEX = re.compile(r"(?i)connection|name resolution|no matching distribution|timed out|proxy")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and one engine in it, as a user gets it; returns its folder of programs."""
    home = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    constraints = home / "constraints.txt"  # this environment's versions: they are in pip's cache, and open our models
    here = {found.name: found.version for found in metadata.distributions()}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in here.items() if name != "modelport"))
    python = home / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    command += ["--disable-pip-version-check", "--constraint", str(constraints), f"{wheel}[{ENGINE}]"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean())
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python.parent


def clean() -> dict[str, str]:
    """The environment without what leads back to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, env=clean())


def test_an_offline_model_made_elsewhere_runs_without_torch(elsewhere: Path, compiled, tmp_path: Path) -> None:
    channels, height, width = models.SIZE
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, channels), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    offline = compiled(ENGINE, 4).path

    done = run(tmp_path, elsewhere / "modelport", "infer", offline, "--images", "images", "-o", "out", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 6
    here = modelport.infer(offline, tmp_path / "images", tmp_path / "here")
    assert here.images == 6
    predictions = [tmp_path / name / "predictions.parquet" for name in ("out", "here")]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()

    told = run(tmp_path, elsewhere / "python", "-c", "import modelport; print(modelport.__file__); import torch")
    assert told.returncode == 1
    assert "No module named 'torch'" in told.stderr
    assert Path(told.stdout.strip()).is_relative_to(elsewhere.parent)


def test_the_installed_program(elsewhere: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    assert run(tmp_path, elsewhere / "modelport", "--version").stdout == f"modelport {modelport.__version__}\n"

    compiling = run(tmp_path, elsewhere / "modelport", "compile", tiny_onnx, "--engine", ENGINE, "-o", "offline")
    assert compiling.returncode == 0, compiling.stderr
    missing = run(tmp_path, elsewhere / "modelport", "compile", tiny_onnx, "--engine", "openvino", "-o", "other")
    assert missing.returncode == 1
    assert "OpenVINO (openvino) is not installed: pip install 'modelport[openvino]'" in missing.stderr
    exporting = run(
        tmp_path, elsewhere / "modelport", "export", "--arch", "resnet18", "--random-weights", "-o", "a.onnx"
    )
    assert exporting.returncode == 1
    assert "pip install 'modelport[export]'" in exporting.stderr


def test_what_is_installed_fits_together(elsewhere: Path) -> None:
    done = run(elsewhere, sys.executable, "-m", "pip", "--python", elsewhere / "python", "check")
    assert done.returncode == 0, done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name and ".egg-info" not in name}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert "modelport/py.typed" in names


def test_the_metadata(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    found = HeaderParser().parsestr(zipfile.ZipFile(wheel).read(name).decode())
    assert (found["Name"], found["Version"]) == ("modelport", modelport.__version__)
    assert found["License-Expression"] == "Apache-2.0"
    assert {"Typing :: Typed", "Environment :: Console"} <= set(found.get_all("Classifier"))
    core = [line for line in found.get_all("Requires-Dist") if "extra ==" not in line]
    assert not [line for line in core if line.startswith(("torch", "timm", "openvino", "onnxruntime"))]


def test_every_engine_has_its_extra(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    extras = HeaderParser().parsestr(zipfile.ZipFile(wheel).read(name).decode()).get_all("Provides-Extra")
    named = {engines.load(engine).extra for engine in engines.names()} - {None}
    assert named <= set(extras)


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout to compare with")
    tracked = {line for line in listed.stdout.splitlines() if (ROOT / line).exists()}
    assert tracked - inside <= {".gitignore"}
    assert not {name for name in inside if name.startswith((".demo", ".venv", "build/", "dist/"))}
