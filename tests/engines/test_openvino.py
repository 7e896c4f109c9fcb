"""OpenVINO's own traps: the precision that really executes, and being told where it is not installed."""

from __future__ import annotations

import subprocess
import sys

import models
import numpy as np
import pytest

from modelport import engines
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import CompileError
from modelport.spec import Precision


@pytest.fixture
def openvino(require_engine):
    """The runtime itself."""
    require_engine("openvino")
    import openvino

    return openvino


@pytest.fixture
def has_bf16(openvino) -> bool:
    """Whether this CPU computes in bf16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def largest_error(model) -> float:
    """Largest error of an opened model's scores against NumPy's."""
    batch = models.images(4)
    with engines.open_model(model) as session:
        return float(np.abs(session.infer(batch) - models.expected_scores(batch)).max())


@pytest.mark.usefixtures("openvino")
def test_f32_stays_f32_after_the_blob_is_opened(compiled):
    model = compiled("openvino", 4)

    assert model.manifest.precision.executed is Precision.F32
    assert largest_error(model) < 1e-5


def test_without_the_hint_this_cpu_would_run_bf16(openvino, has_bf16, tiny_onnx, compiled):
    """The trap that the engine avoids is really there, so the test above can fail."""
    if not has_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    blob = compiled("openvino", 4).file("model.blob").read_bytes()
    batch = models.images(4)

    scores = openvino.Core().import_model(blob, "CPU", {})({0: batch})[0]

    assert np.abs(scores - models.expected_scores(batch)).max() > 1e-4


def test_bf16_runs_where_the_cpu_has_it(has_bf16, compiled):
    if not has_bf16:
        pytest.skip("this CPU has no bf16 arithmetic")
    model = compiled("openvino", 4, Precision.BF16)

    assert model.manifest.precision.requested is Precision.BF16
    assert model.manifest.precision.executed is Precision.BF16
    assert 1e-4 < largest_error(model) < 0.1


def test_bf16_is_refused_where_the_cpu_lacks_it(has_bf16, tiny_onnx, tmp_path):
    if has_bf16:
        pytest.skip("this CPU has bf16 arithmetic")
    options = CompileOptions(precision=Precision.BF16)

    with pytest.raises(CompileError, match="OpenVINO has no bf16 arithmetic on this CPU; compile with --precision f32"):
        compile_model(tiny_onnx, tmp_path / "out", engine="openvino", options=options)


MISSING = """
import sys
sys.modules["openvino"] = None
from pathlib import Path
from modelport import EngineUnavailableError, compile
try:
    compile(sys.argv[1], sys.argv[2], engine="openvino")
except EngineUnavailableError as error:
    print(error)
print(Path(sys.argv[2]).exists())
"""

BROKEN = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "openvino":
            raise ImportError("libopenvino.so: cannot open shared object file")
sys.meta_path.insert(0, Broken())
from modelport import EngineUnavailableError, open
try:
    open(sys.argv[1])
except EngineUnavailableError as error:
    print(error)
"""


def run(code: str, *arguments: object) -> list[str]:
    """Lines that a fresh interpreter prints."""
    child = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


def test_a_missing_runtime_names_what_to_install(tiny_onnx, tmp_path):
    assert run(MISSING, tiny_onnx, tmp_path / "out") == [
        "OpenVINO (openvino) is not installed: pip install 'modelport[openvino]'",
        "False",
    ]


def test_a_broken_runtime_says_why(compiled):
    assert run(BROKEN, compiled("openvino").path) == [
        "OpenVINO (openvino) cannot be loaded (libopenvino.so: cannot open shared object file): "
        "pip install 'modelport[openvino]'"
    ]
