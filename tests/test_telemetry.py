"""No telemetry: whatever a command imports, nothing appears in the home directory and nobody is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# In the command's process and in all that it starts: sockets opened in Python by audit hook, others' by what is open at the end.
SITE = """
import atexit, os, sys

def tell(text):
    with open(os.environ["WITNESS"], "a") as file:
        print(sys.argv, text, file=file)

def loopback(address):
    return not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost", "")

def look(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.bind") and not loopback(args[1]):
        tell((event, args[1:]))
    if event == "socket.getaddrinfo" and not loopback((args[0] or "",)):
        tell((event, args))

def look_at_the_end():
    import psutil
    for connection in psutil.Process().net_connections():
        if not connection.raddr or not loopback(tuple(connection.raddr)):
            tell(connection)

sys.addaudithook(look)
atexit.register(look_at_the_end)
"""


class Watched:
    """Runs commands with an empty home directory."""

    def __init__(self, folder: Path) -> None:
        self.home, self.witness = folder / "home", folder / "witness.txt"
        self.home.mkdir()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "HF_"))}
        path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = kept | {"HOME": str(self.home), "WITNESS": str(self.witness), "PYTHONPATH": path}

    def python(self, *words: object, code: int = 0) -> None:
        child = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, env=self.environment, timeout=280
        )
        assert child.returncode == code, child.stderr

    def modelport(self, *words: object) -> None:
        self.python("-m", "modelport", *words)

    def check(self) -> None:
        """Nothing was written below the home directory, nobody was called."""
        assert sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*")) == []
        assert not self.witness.exists(), self.witness.read_text()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(32):
        Image.fromarray(rng.integers(0, 256, (16, 12, 3), np.uint8)).save(folder / f"{number:02}.png")
    return folder


def test_the_watch_sees_a_file_and_a_call(watched):
    watched.python("-c", "from pathlib import Path; (Path.home() / 'x').touch()")
    with pytest.raises(AssertionError, match="x"):
        watched.check()
    (watched.home / "x").unlink()
    watched.python("-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))")
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        watched.check()


def test_importing(watched):
    watched.python("-c", "from modelport import *; import modelport.exporter, modelport.quantizers")
    watched.python("-m", "modelport", "doctor")
    watched.check()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_compile_infer_and_bench(watched, images, tiny_onnx, tmp_path, require_engine, engine):
    require_engine(engine)
    model = tmp_path / "model"
    watched.modelport("compile", tiny_onnx, "--engine", engine, "-o", model)
    watched.modelport("infer", model, "--images", images, "-o", tmp_path / "out")
    watched.modelport("bench", model, "--rounds", "2", "--warmup", "1")
    watched.check()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_quantise(watched, images, tiny_onnx, tmp_path, require_engine, engine):
    require_engine(engine)
    pytest.importorskip("nncf")
    words = ("compile", tiny_onnx, "--engine", engine, "--precision", "int8", "--calibration", images)
    watched.modelport(*words, "-o", tmp_path / "model")
    watched.check()


def test_export(watched, tmp_path):
    pytest.importorskip("timm")
    words = ("export", "--arch", "test_resnet", "--random-weights", "--num-classes", "10", "--input-size", "32")
    watched.modelport(*words, "-o", tmp_path / "model.onnx")
    watched.check()
