"""`make fuzz`, for a moment: it counts, and it keeps what it finds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

from fuzz.targets import Target
from modelport.errors import FormatError

pytest.importorskip("atheris", reason="atheris is not installed: pip install 'modelport[fuzz]'")


def test_a_moment_of_fuzzing_fills_the_table(tmp_path):
    line = [sys.executable, "-m", "fuzz", "pure-performance", "mean", "--runs", "2000", "--out", str(tmp_path)]
    child = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["target"] for row in rows] == ["pure-performance", "mean"]
    for row in rows:
        assert row["inputs"] == 2000
        assert 0 < row["refused"] < 2000
        assert row["coverage"] > 0
        assert row["findings"] == []
        assert f"| {row['target']} | 2,000 |" in child.stdout


def test_an_error_without_a_type_is_kept_once_for_each_place(tmp_path):
    from fuzz.worker import Fuzzed

    def parse(data: bytes) -> None:
        if data.startswith(b"{"):
            raise FormatError("told in a line")
        if len(data) > 3:
            raise KeyError("a")
        json.loads(data)

    fuzzed = Fuzzed(Target("planted", list, parse), tmp_path / "report.json", tmp_path)
    for data in (b"{", b"aaaaaa", b"bbbb", b"cccccccc", b"[", b"1"):
        fuzzed(data)

    kept = {path.name.split("-")[1]: path.read_bytes() for path in tmp_path.glob("*.bin")}
    assert kept == {"KeyError": b"bbbb", "JSONDecodeError": b"["}  # the smallest of each
    assert len(json.loads((tmp_path / "report.json").read_text())["findings"]) == 2
    assert "KeyError: 'a'" in next(tmp_path.glob("planted-KeyError*.txt")).read_text()


def test_an_unknown_target_is_refused():
    child = subprocess.run([sys.executable, "-m", "fuzz", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 2
    assert "no target 'nothing'; there are labels, " in child.stderr
