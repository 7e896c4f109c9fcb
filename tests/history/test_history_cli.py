"""history, compare and gate through the command line; and the commands that put their results there."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from histories import bench_entry, save_run, steady
from PIL import Image

from modelport.cli import main
from modelport.errors import FormatError
from modelport.history.loading import load_path
from modelport.history.store import open_history
from modelport.measure.again import measure_again
from modelport.measure.paired import TurnOptions

RECIPE = """
name: tiny
model: {onnx: tiny.onnx}
data: {images: pictures, labels: labels.txt}
targets:
  - {engine: null, precision: f32}
accuracy: {against_source: false, tolerance_points: 1.0}
performance: {batch_sizes: [1, 2], rounds: 12, warmup: 1}
"""


@dataclass
class Done:
    """What a command told."""

    stdout: str
    stderr: str


def process(*words: object, **environment: str) -> Done:
    """A command as a process of its own."""
    line = [sys.executable, "-m", "modelport", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=200)
    assert done.returncode == 0, done.stderr
    return Done(done.stdout, done.stderr)


def modelport(*words: object, code: int = 0, **environment: str) -> Done:
    """The same through the entry point, in this process: forty of them in the time of one."""
    logger, before = logging.getLogger("modelport"), signal.getsignal(signal.SIGTERM)
    kept = logger.handlers[:], logger.propagate, logger.level
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as told:
        patch.setattr(sys, "argv", ["modelport", *map(str, words)])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
            logger.handlers[:], logger.propagate = kept[:2]
            logger.setLevel(kept[2])
    assert ended.value.code == code, told.getvalue()
    return Done(out.getvalue(), told.getvalue())


def document(*words: object, **environment: str) -> Any:
    return json.loads(modelport(*words, "--json", **environment).stdout)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, labels, a recipe, the tiny classifier."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "pictures").mkdir()
    rng, lines = np.random.default_rng(0), []
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 12, 3), np.uint8)).save(folder / "pictures" / f"{number}.png")
        lines.append(f"{number}.png {number % models.CLASSES}\n")
    (folder / "labels.txt").write_text("".join(lines))
    models.save(models.classifier(), folder / "tiny.onnx")
    (folder / "tiny.yaml").write_text(RECIPE.replace("null,", '"null",'))
    return folder


@pytest.fixture(scope="module")
def recorded(workplace: Path) -> Path:
    """A history into which every command that records has been run, each once, run twice."""
    path, where = workplace / "history.db", {"MODELPORT_HISTORY": str(workplace / "history.db")}
    model, out = workplace / "model", workplace / "out"
    modelport("compile", workplace / "tiny.onnx", "--engine", "null", "--batch-size", 2, "-o", model)
    modelport("bench", model, "--rounds", 8, "--warmup", 1, **where)
    modelport(
        "infer", model, "--images", workplace / "pictures", "--labels", workplace / "labels.txt", "-o", out, **where
    )
    modelport("evaluate", out, **where)
    run = ("run", workplace / "tiny.yaml", "--out", workplace / "job", "--history", path)
    told = process(*run).stderr
    assert "history: " in told
    assert "(it was there already)" in modelport(*run).stderr
    space = ("--engines", "null", "--precisions", "f32", "--batch-sizes", "1", "--repeats", 2, "--seconds", 0.05)
    modelport("sweep", workplace / "tiny.onnx", *space, "-o", workplace / "sweep", **where)
    words = ("--images", workplace / "pictures", "--labels", workplace / "labels.txt", "--max-drop", 100)
    modelport("tune", workplace / "tiny.onnx", *space, *words, "-o", workplace / "tune", **where)
    return path


def test_every_command_leaves_one_entry(recorded: Path, workplace: Path) -> None:
    rows = document("history", "--history", recorded)
    assert [row["kind"] for row in rows] == ["tune", "sweep", "run", "evaluate", "infer", "bench"]
    by_kind = {row["kind"]: row for row in rows}
    assert {row["model"] for row in rows} == {"tiny"}
    assert [speed["configuration"] for speed in by_kind["run"]["speeds"]] == ["null-f32, batch 1", "null-f32, batch 2"]
    assert by_kind["bench"]["speeds"][0]["configuration"] == "null-f32, batch 2"
    assert by_kind["tune"]["speeds"][0]["configuration"].startswith("null-f32, batch 1")
    assert by_kind["run"]["place"] == str(workplace / "job")
    evaluated, run = by_kind["evaluate"]["accuracies"][0], by_kind["run"]["accuracies"][0]
    assert (evaluated["top1"], evaluated["images"]) == (run["top1"], 12)
    assert by_kind["infer"]["accuracies"][0]["e2e"] > 0


def test_lists_and_filters(recorded: Path) -> None:
    listed = modelport("history", "--history", recorded).stdout
    assert "6 entries of" in listed
    assert "null-f32" in listed
    assert [row["kind"] for row in document("history", "--history", recorded, "--kind", "sweep")] == ["sweep"]
    assert document("history", "--history", recorded, "--engine", "openvino") == []
    assert len(document("history", "--history", recorded, "--limit", 2)) == 2
    assert document("history", "--history", recorded, "--since", "2099-01-01") == []
    assert "expected a date" in modelport("history", "--since", "soon", "--history", recorded, code=2).stderr


def test_shows_one_and_its_document_compares(recorded: Path, tmp_path: Path) -> None:
    shown = modelport("history", "show", "latest", "--history", recorded).stdout
    assert "tune" in shown
    whole = document("history", "--history", recorded, "show", "latest~2")
    assert (whole["format"], whole["run"]["name"]) == ("modelport.history", "tiny")
    (tmp_path / "baseline.json").write_text(json.dumps(whole))
    found = document("compare", tmp_path / "baseline.json", "latest~2", "--history", recorded)
    assert found["changed"] is False
    assert [change["slowdown"] for change in found["speed"]] == [0.0, 0.0]


def test_a_real_pair_of_runs_of_one_model(recorded: Path, workplace: Path, tmp_path: Path) -> None:
    """Measured twice, on this machine as it is. Accuracy is the same to the image; speed is judged, whatever was found."""
    modelport("run", workplace / "tiny.yaml", "--out", tmp_path / "again", "--no-history")
    found = document("compare", workplace / "job", tmp_path / "again", "--history", recorded)
    assert [change["verdict"] for change in found["accuracy"]] == ["no change"]
    assert found["accuracy"][0]["paired"] == {
        "against": "A", "images": 12, "changed": 0, "lost": 0, "gained": 0, "p_value": 1.0,
    }  # fmt: skip
    assert [change["configuration"] for change in found["speed"]] == ["null-f32, batch 1", "null-f32, batch 2"]
    assert all(change["low"] < change["slowdown"] < change["high"] for change in found["speed"])
    text = modelport("history", "compare", workplace / "job", tmp_path / "again", "--history", recorded).stdout
    assert "Accuracy: no change beyond noise." in text
    assert len(document("history", "--history", recorded)) == 6  # --no-history


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A history of two jobs, the second 12 % slower."""
    for name, slower, hour in (("a", 1.0, 8), ("b", 1.12, 9)):
        save_run(tmp_path / name, latencies=[steady(4e-3 * slower)], started=f"2026-11-26T{hour:02}:00:00+00:00")
    with open_history(tmp_path / "h.db", create=True) as history:
        for name in "ab":
            history.add(load_path(tmp_path / name).entry)
    return tmp_path / "h.db"


def test_compare_says_what_changed(two: Path) -> None:
    told = modelport("compare", "latest~1", "latest", "--history", two).stdout
    assert "Speed: 1 of 1 configurations slower, by up to 12.0%." in told
    assert "assumed, for the history has too few earlier runs" in told


def test_the_gate_exits_3_with_the_reason_in_one_line(two: Path, tmp_path: Path) -> None:
    words = ("--baseline", "latest~1", "--history", two)
    done = modelport("gate", *words, "--max-slowdown", "5%", "--junit", tmp_path / "gate.xml", code=3)
    (line,) = [line for line in done.stderr.splitlines() if "gate FAILED" in line]
    assert line.startswith("modelport: error: gate FAILED: null-f32, batch 1: 12.0% slower (4 → 4.48 ms; ")
    assert 'failures="1"' in (tmp_path / "gate.xml").read_text()
    assert "exists already" in modelport("gate", *words, "--junit", tmp_path / "gate.xml", code=1).stderr
    done = modelport("gate", "latest", *words, "--max-slowdown", "15")
    assert "gate passed: nothing in" in done.stderr
    assert document("gate", tmp_path / "a", "--baseline", tmp_path / "b", "--history", two)["passed"] is True


def test_the_gate_and_compare_refuse_nonsense(two: Path) -> None:
    assert (
        "'fast': expected a percentage of 0 or more, such as 5%"
        in modelport("gate", "--baseline", "latest~1", "--max-slowdown", "fast", "--history", two, code=2).stderr
    )
    assert "Missing option '--baseline'" in modelport("gate", code=2).stderr
    assert (
        "is no file, no directory and no id"
        in modelport("compare", "nowhere", "latest", "--history", two, code=1).stderr
    )


def test_pruning(two: Path) -> None:
    assert document("history", "prune", "--keep", 1, "--dry-run", "--history", two)["left"] == 2
    newest = document("history", "--history", two, "--limit", 1)[0]["id"]
    done = document("history", "prune", "--keep", 1, "--history", two)
    assert (len(done["removed"]), done["left"]) == (1, 1)
    assert document("history", "prune", newest[:8], "--history", two)["left"] == 0
    assert (
        "Give either ENTRIES or --keep and --before." in modelport("history", "prune", "--history", two, code=2).stderr
    )


def test_a_history_that_cannot_be_written_fails_no_run(workplace: Path, recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ("bench", workplace / "model", "--rounds", 2, "--warmup", 0)
    done = modelport(*words, "--history", tmp_path / "file" / "h.db")
    assert "warning: this run is not in the history: cannot write" in done.stderr
    assert (
        "--history and --no-history exclude each other"
        in modelport(*words, "--history", "x", "--no-history", code=2).stderr
    )


def test_without_a_history(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    assert "there is no history here yet" in modelport("history", "--history", missing, code=1).stderr
    assert "MODELPORT_HISTORY=off switches the history off" in modelport("history", code=2).stderr
    assert not missing.exists()


def test_by_default_it_is_in_the_users_data_directory(workplace: Path, recorded: Path, tmp_path: Path) -> None:
    home = {"MODELPORT_HISTORY": "", "XDG_DATA_HOME": "", "HOME": str(tmp_path)}
    modelport("bench", workplace / "model", "--rounds", 2, "--warmup", 0, **home)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["history.db"]
    assert len(document("history", **home)) == 1


def test_filters_before_a_subcommand_are_refused(two: Path) -> None:
    told = modelport("history", "--model", "x", "prune", "--keep", 1, "--history", two, code=2).stderr
    assert "--model goes after prune, where it takes it." in told


def test_hostile_names_reach_no_terminal(tmp_path: Path) -> None:
    name = "evil\x1b[31m\u202e<script>"
    entry = bench_entry(steady(4e-3)).model_copy(update={"name": name, "place": name})
    with open_history(tmp_path / "h.db", create=True) as history:
        history.add(entry)
    shown = modelport("history", "--history", tmp_path / "h.db").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "evil\\x1b[31m\\u202e<script>" in shown


class TestMeasuredAgain:
    """The models of two jobs timed in turn. What is found depends on the machine; that it is measured does not."""

    QUICK = TurnOptions(rounds=6, seconds=0.01, processes=1)

    def test_every_common_configuration(self, recorded: Path, workplace: Path) -> None:
        entry = load_path(workplace / "job").entry
        found = measure_again(entry, entry, options=self.QUICK)
        assert [change.configuration for change in found] == ["null-f32, batch 1", "null-f32, batch 2"]
        assert all(change.reason.startswith("measured again in turn, ") for change in found)
        assert all(change.low <= change.slowdown <= change.high for change in found)

    def test_what_is_gone_is_refused(self, recorded: Path, workplace: Path, tmp_path: Path) -> None:
        job = Path(shutil.copytree(workplace / "job", tmp_path / "job"))
        entry = load_path(job).entry
        shutil.rmtree(job / "null-f32" / "batch-2")
        with pytest.raises(FormatError, match="batch-2: there is no offline model any more"):
            measure_again(entry, entry, options=self.QUICK)
        save_run(job, latencies=[steady(4e-3)])
        with pytest.raises(
            FormatError, match="job: does not hold this run any more, so its models cannot be measured again"
        ):
            measure_again(entry, entry, options=self.QUICK)
        bench = bench_entry(steady(4e-3))
        with pytest.raises(FormatError, match="tiny: is an entry of `bench`; only those of `run` keep models"):
            measure_again(bench, bench, options=self.QUICK)
