"""`modelport optimize` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import models
import pytest
from places import ROOT
from rewritable import small

pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'modelport[optimize]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

BY_RULE = ["fold_normalization", "simplify", "split_convolutions"]
MODELPORT = [sys.executable, "-m", "modelport"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The small classifier. Not to be written to."""
    return models.save(small(), tmp_path_factory.mktemp("source") / "small.onnx")


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MODELPORT, "optimize", *map(str, words)], capture_output=True, text=True, cwd=ROOT)


def test_the_command(source, tmp_path):
    output = tmp_path / "out.onnx"
    line = [source, "--target", "ascend", "-o", output]

    shown = command(*line, "--html", tmp_path / "page.html")

    assert shown.returncode == 0, shown.stderr
    for text in ("split_convolutions", "rejected", "By rule: what adds no arithmetic"):
        assert text in shown.stdout
    assert f"KEPT by rule for ascend: {', '.join(BY_RULE)}; equal to small.onnx, and not measured" in shown.stdout
    assert f"Written: {output}, {tmp_path / 'out.optimization.json'}" in shown.stdout
    assert "small.onnx: rewrites for ascend" in (tmp_path / "page.html").read_text()
    again = command(*line)
    assert (again.returncode, again.stderr.startswith("modelport: error: ")) == (1, True)
    forced = command(*line, "--force", "--json")
    assert json.loads(forced.stdout) == json.loads((tmp_path / "out.optimization.json").read_text())


def test_the_commands_usage(source, tmp_path):
    wrong = command(source, "--target", "ascend", "--passes", "merge_group:8", "-o", tmp_path / "out.onnx")

    assert wrong.returncode == 2
    assert "Invalid value for '--passes': no pass is called 'merge_group'; did you mean 'merge_groups'?" in wrong.stderr
