"""`make bench`, as a smoke run: every table is made, and its figures are saved."""

from __future__ import annotations

import json
import subprocess
import sys

from places import ROOT

TABLES = [
    "preprocessing, one thread",
    "overhead: prepared 64 px files, no inference",
    "pure inference, batch 1",
    "end to end from JPEG files, batch 1",
]


def test_a_smoke_run_fills_every_table(tmp_path):
    out = tmp_path / "bench.json"
    line = [sys.executable, "benchmarks", "--quick", "--out", str(out)]
    child = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    saved = json.loads(out.read_text())
    assert list(saved["figures"]) == TABLES
    for title in TABLES:
        assert title in child.stdout
        assert all(rate > 0 for figure in saved["figures"][title] for rate in figure["rates"])
    assert {"f32", "int8"} <= set(saved["peaks"]["operations"])
    ours = [figure for figure in saved["figures"][TABLES[3]] if figure["name"].startswith("modelport infer")]
    assert len(ours) == 1
    assert ours[0]["limits"]
    assert "÷ PyTorch eager f32" in child.stdout
    tenth, whole = saved["memory"].values()
    assert whole - tenth < 50  # MB: the images were ten times as many
