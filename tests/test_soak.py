"""`make soak`, as a smoke run, and its verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def soak():
    spec = spec_from_file_location("soak", ROOT / "benchmarks" / "soak.py")
    module = module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["soak"]


def test_a_smoke_run_watches_both_engines(require_engine, tmp_path):
    require_engine("openvino")
    out = tmp_path / "soak.json"
    line = [sys.executable, "benchmarks/soak.py", "--quick", "--out", str(out), "--work", str(tmp_path)]
    child = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "null engine, 3,000 prepared files" in child.stdout
    runs = json.loads(out.read_text())["runs"]
    assert [run["images"] for run in runs] == [3000, 300]
    for run in runs:
        assert run["flat"]
        assert run["failures"] == 0
        assert run["rate"] > 0
        assert len(run["samples"]) > 3
    assert list(tmp_path.iterdir()) == [out]  # nothing is left lying about


@pytest.mark.parametrize(
    ("rss_mb", "descriptors", "flat"), [(149, 9, True), (151, 5, False), (100, 10, False), (80, 3, True)]
)
def test_growth_is_told(soak, rss_mb, descriptors, flat):
    first, last = soak.Sample(1.0, 100, 100.0, 5), soak.Sample(9.0, 950, rss_mb, descriptors)
    run = soak.Soaked(
        name="x", images=1000, failures=0, rate=1.0, first=first, last=last, peak_mb=200, planned_s=1, samples=()
    )

    assert run.flat == flat
