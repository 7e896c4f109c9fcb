"""Real-data runs in isolation: an engine that dies or hangs ends in a right result, or in an error with all done work kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.cli import cli
from modelport.data.parts import JOURNAL
from modelport.engines.null import FAULT
from modelport.engines.session import Isolation, SessionOptions
from modelport.errors import EngineDiedError, InferenceError
from modelport.inference import infer
from modelport.job import run as run_job
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.work import InferOptions

COUNT, BATCH = 40, 4
WHITE = ">1.5"  # the mean of a white image is above 2, once normalised; the others' are below 0
DIES, HANGS = "the engine dies on it (SIGSEGV)", "the engine hangs on it"


@pytest.fixture
def model(compiled) -> OfflineModel:
    return compiled("null", BATCH)


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """`images(7, 30)`: a folder of 40 (or `count`) dark images, of which these are white."""

    def write(*white: int, count: int = COUNT) -> Path:
        folder, rng = tmp_path / "images", np.random.default_rng(0)
        folder.mkdir()
        for number in range(count):
            colour = (255, 255, 255) if number in white else rng.integers(0, 100, 3)
            _, height, width = models.SIZE
            Image.fromarray(np.full((height, width, 3), colour, np.uint8)).save(folder / f"{number:02}.png")
        return folder

    return write


def run(
    model: OfflineModel, images: Path, out: Path, isolation: Isolation | None, *, count: bool = True, streams: int = 2
) -> InferResult:
    options = InferOptions(
        session=SessionOptions(streams=streams, isolation=isolation),
        pipeline=PipelineOptions(
            keep_scores=True, count_bad_images=count, decoders=streams
        ),  # one each: batches in order
    )
    return infer(model, images, out, options=options)


def predictions(out: Path) -> bytes:
    return (out / PREDICTIONS_FILE).read_bytes()


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / PREDICTIONS_FILE).to_pylist()


@pytest.mark.parametrize("engine", ["null", "onnxruntime", "openvino"])
def test_isolated_or_not_predictions_are_the_same_bytes(engine, compiled, images, tmp_path):
    model, folder = compiled(engine, BATCH), images()
    beside = run(model, folder, tmp_path / "beside", None)
    own = run(model, folder, tmp_path / "own", Isolation())
    assert predictions(tmp_path / "own") == predictions(tmp_path / "beside")
    assert (beside.isolated, beside.restarts) == (False, None)
    assert (own.isolated, own.restarts) == (True, 0)
    infer_stage = next(stage for stage in own.stages if stage.name == "infer")
    assert infer_stage.cpu_s > 0
    assert InferResult.read(tmp_path / "own" / INFER_FILE) == own


@pytest.mark.parametrize("fault", ["signal", "hang"])
def test_an_engine_that_fails_once_changes_nothing(model, images, tmp_path, monkeypatch, fault):
    folder = images()
    run(model, folder, tmp_path / "whole", None)
    monkeypatch.setenv(FAULT, f"infer-{fault}:6@{tmp_path / 'count'}")
    result = run(model, folder, tmp_path / "out", Isolation(batch_timeout=1))
    assert (result.failures, result.restarts) == (0, 1)
    assert predictions(tmp_path / "out") == predictions(tmp_path / "whole")


@pytest.mark.parametrize(
    ("fault", "reason", "killers"),
    [("signal", DIES, (17,)), ("signal", DIES, (17, 18)), ("signal", DIES, (3, 36)), ("hang", HANGS, (39,))],
)
def test_images_that_end_the_engine_are_counted_and_the_rest_is_the_same(
    model, images, tmp_path, monkeypatch, fault, reason, killers
):
    folder = images(*killers)
    run(model, folder, tmp_path / "whole", None)
    monkeypatch.setenv(FAULT, f"infer-{fault}:{WHITE}")
    result = run(model, folder, tmp_path / "out", Isolation(batch_timeout=1))

    assert (result.images, result.failures) == (COUNT, len(killers))
    assert [(bad.key, bad.reason) for bad in result.bad_images] == [(f"{n:02}.png", reason) for n in killers]
    assert sum(stage.failures for stage in result.stages) == len(killers)
    for number, (got, wanted) in enumerate(zip(rows(tmp_path / "out"), rows(tmp_path / "whole"), strict=True)):
        if number in killers:
            assert (got["error"], got["top"], got["scores"]) == (reason, [], None)
        else:
            assert got == wanted


def test_an_image_that_ends_the_engine_ends_the_run_where_bad_images_do(model, images, tmp_path, monkeypatch):
    folder = images(17)
    monkeypatch.setenv(FAULT, f"infer-signal:{WHITE}")
    with pytest.raises(InferenceError, match=r"17\.png: the engine dies on it \(SIGSEGV\); --on-bad-image count lists"):
        run(model, folder, tmp_path / "out", Isolation(), count=False)


def test_where_the_engine_dies_too_often_what_was_done_is_kept(model, images, tmp_path, monkeypatch):
    folder = images()
    monkeypatch.setenv(FAULT, "infer-signal:6")
    with pytest.raises(EngineDiedError, match=r"after it was started again 0 times, the most in a run"):
        run(model, folder, tmp_path / "out", Isolation(restarts=0), streams=1)
    again = run(model, folder, tmp_path / "out", Isolation(restarts=1), streams=1)
    assert (again.kept, again.failures, again.restarts) == (20, 0, 0)
    monkeypatch.delenv(FAULT)
    run(model, folder, tmp_path / "whole", None, streams=1)
    assert predictions(tmp_path / "out") == predictions(tmp_path / "whole")


@pytest.mark.parametrize("first", [None, Isolation()])
def test_what_one_way_has_done_the_other_goes_on_with(model, images, tmp_path, monkeypatch, first):
    folder, then = images(), None if first else Isolation()
    monkeypatch.setenv(FAULT, "infer-raise:6")
    with pytest.raises(InferenceError, match="the null engine failed"):
        run(model, folder, tmp_path / "out", first, streams=1)
    monkeypatch.delenv(FAULT)
    assert run(model, folder, tmp_path / "out", then, streams=1).kept == 20
    assert run(model, folder, tmp_path / "out", first, streams=1).isolated == bool(then)  # nothing was done again


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelport", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,  # a group of its own, as a terminal makes for each command
    )


def descendants(process: subprocess.Popen[str], count: int, deadline: float = 30) -> list[psutil.Process]:
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        if len(found := psutil.Process(process.pid).children(recursive=True)) >= count:
            return found
        time.sleep(0.01)
    pytest.fail("the engine's process did not start")


def wait_for_batch(counter: Path, number: int) -> None:
    while not counter.is_file() or counter.stat().st_size < number:
        time.sleep(0.01)


def test_ctrl_c_is_for_the_run_and_not_for_the_engine(model, images, tmp_path):
    """The sixth batch hangs when Ctrl-C comes: it is ended, tried again and committed, as is all before it."""
    out, counter = tmp_path / "out", tmp_path / "count"
    words = "infer", model.path, "--images", images(count=5 * COUNT), "--streams", 1, "--isolate", "-o", out
    process = start(*words, "--batch-timeout", 2, **{FAULT: f"infer-hang:6@{counter}"})
    wait_for_batch(counter, 6)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130, told
    assert "the engine hung (no answer in 2 s)" in told  # it had not died of Ctrl-C
    assert "are done and kept in" in told
    kept = sum(json.loads(line)["images"] for line in (out / JOURNAL).read_text().splitlines()[1:])
    assert 24 <= kept < 5 * COUNT
    again = start(*words)
    _, told = again.communicate(timeout=60)
    assert again.returncode == 0, told
    assert InferResult.read(out / INFER_FILE).kept == kept


def test_a_run_that_is_killed_leaves_no_engine_behind(model, images, tmp_path):
    counter = tmp_path / "count"
    words = "infer", model.path, "--images", images(), "--streams", 1, "--isolate", "-o", tmp_path / "out"
    process = start(*words, **{FAULT: f"infer-hang:3@{counter}"})
    wait_for_batch(counter, 3)
    (engine,) = descendants(process, 1)
    process.kill()
    process.communicate()
    psutil.wait_procs([engine], timeout=10)
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


def test_the_command_line_says_that_a_run_was_isolated(model, images, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, f"infer-signal:4@{tmp_path / 'count'}")
    words = ["infer", str(model.path), "--images", str(images()), "--isolate", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*words, "--batch-timeout", "30"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "The engine ran in a process of its own (restarts: 1)." in done.stdout
    document = json.loads((tmp_path / "out" / INFER_FILE).read_text())
    assert (document["isolated"], document["restarts"]) == (True, 1)


def test_a_batch_timeout_without_isolation_is_a_wrong_command_line(model, images, tmp_path):
    words = ["infer", str(model.path), "--images", str(images()), "--batch-timeout", "5", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "--batch-timeout goes with --isolate" in done.stderr


def test_a_job_isolates_its_real_data_runs(tiny_onnx, images, tmp_path, monkeypatch):
    folder = images(17)
    (tmp_path / "labels.txt").write_text("".join(f"{n:02}.png {n % models.CLASSES}\n" for n in range(COUNT)))
    recipe = {
        "name": "isolated",
        "model": {"onnx": str(tiny_onnx)},
        "data": {"images": str(folder), "labels": str(tmp_path / "labels.txt")},
        "targets": [{"engine": "null"}],
        "inference": {"isolate": True, "batch_timeout": 20},
        "performance": {"batch_sizes": [1], "rounds": 3, "warmup": 1},
        "accuracy": {"batch_size": BATCH, "tolerance_points": 100, "against_source": False},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setenv(FAULT, f"infer-signal:{WHITE}")

    result = run_job(tmp_path / "job.yaml", tmp_path / "out")

    inference = result.targets[0].inference
    assert (inference.isolated, inference.failures, inference.bad_images[0].reason) == (True, 1, DIES)
    assert inference.restarts
    assert any("--isolate --batch-timeout 20" in command.line for command in result.commands)
    assert "in a process of its own" in (tmp_path / "out" / "model-card.md").read_text()
    again = run_job(tmp_path / "job.yaml", tmp_path / "out", overrides={"inference": {}})
    assert again.targets[0].inference == inference  # nothing is done again for it
