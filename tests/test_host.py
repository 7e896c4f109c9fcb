"""The machine's fingerprint and the environment of a result, looked up without importing what they name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import psutil
import pytest

import modelport
from modelport.host import environment, fingerprint, usable_cores


def test_fingerprint_is_of_this_machine():
    found = fingerprint()

    assert found.machine == platform.machine()
    assert found.cpu
    assert found.features == tuple(sorted(set(found.features)))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_fingerprint_names_the_features_that_the_kernel_reports():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
    flags = {key.strip(): value for key, value in lines.items()}
    if "flags" not in flags:
        pytest.skip("this kernel lists no `flags`")

    kernel = set(flags["flags"].split())

    assert {"avx2", "avx512_bf16", "sse4_2"} & kernel <= set(fingerprint().features)
    assert fingerprint().cpu == flags["model name"].strip()


def test_environment_states_what_a_figure_depends_on():
    found = environment()

    assert found.modelport == modelport.__version__
    assert found.python == platform.python_version()
    assert found.machine == platform.machine()
    assert found.cpu == fingerprint().cpu
    assert found.cpu_features == fingerprint().features
    assert found.cores == usable_cores()
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.packages["numpy"] == version("numpy")
    assert found.differences(environment()) == []


def run(code: str) -> object:
    """What a fresh interpreter prints as JSON."""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_environment_lists_packages_without_importing_them():
    heavy = ["torch", "timm", "openvino", "onnxruntime", "onnx"]

    imported = run(
        "import json, sys; from modelport.host import environment; environment()\n"
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )

    assert imported == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no core affinity on this system")
def test_only_cores_that_the_process_may_use_are_counted():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from modelport.host import environment; print(environment().cores)"
    )

    assert run(code) == 1
