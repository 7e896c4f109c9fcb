"""`modelport profile` through its entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msprof
import pytest

MODELPORT = Path(sys.executable).with_name("modelport")


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(MODELPORT), "profile", *map(str, words)], capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_model_is_profiled_into_a_directory(csp_model, tmp_path):
    done = run(
        csp_model("openvino").path, "--rounds", 2, "--warmup", 1, "--no-peaks", "--top", 3, "-o", tmp_path / "out"
    )

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "op_statistic_0_1.csv", "op_summary_0_1.csv", "profile.html", "profile.json", "trace.json",
    ]  # fmt: skip
    for text in ("Sum and latency", "By type", "Top 3 operators", "Data movement", "split_convolutions", "Report: "):
        assert text in done.stdout
    assert "exists already" in run(csp_model("openvino").path, "-o", tmp_path / "out", code=1).stderr


def test_a_device_profile_as_a_document(tmp_path):
    path = msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), msprof.GUIDE)

    document = json.loads(run(path, "--json").stdout)
    assert (document["origin"], document["islands"][0]["rewrite"]) == ("msprof", "split_convolutions")
    assert document["islands"][0]["recoverable_us"] == 8400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a header"),
        ("Op Name,OP Type,Task Duration(us)\na,b,c\n", "op_summary_0_1.csv:2: Task Duration"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, message):
    (tmp_path / "op_summary_0_1.csv").write_text(text)

    done = run(tmp_path, code=1)
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_engine_without_counters_is_one_line(compiled):
    done = run(compiled("null").path, code=1)

    assert "has no operator counters" in done.stderr
    assert len(done.stderr.splitlines()) == 1
