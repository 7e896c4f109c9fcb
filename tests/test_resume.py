"""Runs that are killed, stopped, or run again: finished work is kept, nothing is doubled, the bytes are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import models
import pytest
import yaml
from flat_images import write_images
from PIL import Image

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data.parts import DIRECTORY, JOURNAL
from modelport.data.predictions import Predictions
from modelport.engines.null import FAULT
from modelport.engines.session import SessionOptions
from modelport.errors import InferenceError, OutputError
from modelport.inference import infer
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.work import InferOptions

COUNT, BATCH, KILLS = 2000, 8, 25
# Parts every twentieth of a second instead of every five seconds, so that kills find some; else the real command line.
QUICK = "import modelport.executor as e; e._COMMIT_S = 0.05; from modelport.cli import main; main()"
ONE_STREAM = SessionOptions(streams=1)


@pytest.fixture(scope="session")
def two_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_images(tmp_path_factory.mktemp("resume") / "images", COUNT)
    (folder / "0777.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 40)


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", QUICK, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill_at_random(out: Path, longest: float, *words: object, whole: Path) -> None:
    """Kill a command `KILLS` times at random moments, running it again each time, and let the last run end.

    A run that ends before its moment is held against `whole`, and begins anew.
    """
    dice, kills = random.Random(7), 0
    while kills < KILLS:
        process = start(*words)
        try:
            _, told = process.communicate(timeout=dice.uniform(0.2, longest))
            assert process.returncode == 0, told
            assert (out / whole).is_file()
            (out / whole).unlink()  # so that it has something to do again
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    process = start(*words)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told


@pytest.mark.timeout(300)
def test_infer_killed_at_any_instant_ends_with_the_same_bytes(compiled, two_thousand: Path, tmp_path: Path) -> None:
    model = compiled("onnxruntime", BATCH)
    words = "infer", model.path, "--images", two_thousand, "--scores", "-o"
    undisturbed = start(*words, tmp_path / "whole")
    begin = time.monotonic()
    undisturbed.communicate()
    longest = time.monotonic() - begin
    out = tmp_path / "out"

    kill_at_random(out, longest, *words, out, whole=Path(PREDICTIONS_FILE))

    assert (out / PREDICTIONS_FILE).read_bytes() == (tmp_path / "whole" / PREDICTIONS_FILE).read_bytes()
    result = InferResult.read(out / INFER_FILE)
    assert (result.images, result.failures) == (COUNT, 1)
    assert sorted(path.name for path in (out / DIRECTORY).iterdir()) == ["journal.jsonl"]


@pytest.mark.timeout(300)
def test_run_killed_at_any_instant_ends_with_the_same_bytes(
    tiny_onnx: Path, two_thousand: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"{n:04}.png {n % models.CLASSES}\n" for n in range(COUNT)))
    recipe = {
        "name": "killed",
        "model": {"onnx": str(tiny_onnx)},
        "data": {"images": str(two_thousand), "labels": str(tmp_path / "labels.txt")},
        "targets": [{"engine": "onnxruntime"}],
        "performance": {"batch_sizes": [1], "rounds": 3, "warmup": 1},
        "accuracy": {"batch_size": BATCH, "tolerance_points": 100},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(recipe))
    begin = time.monotonic()
    _, told = start("run", tmp_path / "job.yaml", "--out", tmp_path / "whole").communicate()
    longest, out = time.monotonic() - begin, tmp_path / "out"
    assert (tmp_path / "whole" / "run.json").is_file(), told

    kill_at_random(out, longest, "run", tmp_path / "job.yaml", "--out", out, whole=Path("source") / PREDICTIONS_FILE)

    for name in (
        "source/predictions.parquet",
        "onnxruntime-f32/predictions/predictions.parquet",
        "onnxruntime-f32/result.json",
    ):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(out.rglob(".*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_at_a_batch_and_says_how_to_go_on(
    compiled, two_thousand: Path, tmp_path: Path, number: int
) -> None:
    model, out = compiled("onnxruntime", 1), tmp_path / "out"
    words = "infer", model.path, "--images", two_thousand, "--streams", 1, "-o", out
    process = start(*words)
    while not (out / JOURNAL).is_file() or len((out / JOURNAL).read_bytes().splitlines()) < 2:
        time.sleep(0.005)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert f"of 2,000 images are done and kept in {out}: the same command goes on there" in told
    assert not (out / PREDICTIONS_FILE).exists()
    kept = sum(json.loads(line)["images"] for line in (out / JOURNAL).read_text().splitlines()[1:])
    again = start(*words)
    _, told = again.communicate(timeout=60)
    assert f"{kept} of 2000 images are done already" in told
    assert InferResult.read(out / INFER_FILE).kept == kept


@pytest.fixture
def model(compiled) -> OfflineModel:
    return compiled("null", 4)


def run(model: OfflineModel, images: Path, out: Path, **more: object) -> InferResult:
    options = InferOptions(session=ONE_STREAM, pipeline=PipelineOptions(decoders=1), limit=more.pop("limit", None))
    return infer(model, images, out, options=options, **more)


class TestUnfinished:
    """A run whose engine failed on the sixth batch of four."""

    @pytest.fixture
    def out(self, model, few, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv(FAULT, "infer-raise:6")
        with pytest.raises(InferenceError, match="the null engine failed"):
            run(model, few, tmp_path / "out")
        monkeypatch.delenv(FAULT)
        return tmp_path / "out"

    def test_goes_on_after_it(self, model, few, out, caplog):
        result = run(model, few, out)
        assert result.kept == 20
        assert f"{out}: 20 of 40 images are done already" in caplog.text
        run(model, few, out.with_name("whole"))
        assert (out / PREDICTIONS_FILE).read_bytes() == (out.with_name("whole") / PREDICTIONS_FILE).read_bytes()

    def test_throughput_is_of_all_that_was_inferred(self, model, few, out):
        parts = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()[1:]]
        result = run(model, few, out)
        assert result.e2e.wall_s > sum(part["seconds"] for part in parts) > 0
        assert result.e2e.throughput == pytest.approx(40 / result.e2e.wall_s)

    def test_a_changed_image_costs_its_batch_alone(self, model, few, out, caplog):
        Image.new("RGB", (9, 9), "red").save(few / "0005.png")
        assert run(model, few, out).kept == 16
        assert "1 images have changed since; their batches are done again (first: 0005.png)" in caplog.text

    def test_a_touched_image_costs_nothing(self, model, few, out):
        os.utime(few / "0005.png", (1, 1))
        assert run(model, few, out).kept == 20

    def test_another_model_is_another_run(self, compiled, few, out, caplog):
        assert run(compiled("null", 8), few, out).kept == 0
        assert "starting anew, since it differs in model" in caplog.text

    def test_a_damaged_part_is_done_again(self, model, few, out):
        (part,) = (out / DIRECTORY).glob("*.parquet")
        part.write_bytes(part.read_bytes()[:-9])
        assert run(model, few, out).kept == 0

    @pytest.mark.parametrize("text", [b"{", b"[]\n", b'{"format": "modelport.parts"}\n', b"\xff\xfe\n"])
    def test_a_damaged_journal_costs_time_and_no_more(self, model, few, out, text):
        (out / JOURNAL).write_bytes(text)
        assert run(model, few, out).kept == 0
        assert len(Predictions.read(out / PREDICTIONS_FILE).keys) == 40

    def test_a_line_cut_off_by_the_kill_is_dropped(self, model, few, out):
        with open(out / JOURNAL, "ab") as file:
            file.write(b'{"start": 20, "ima')
        assert run(model, few, out).kept == 20

    def test_a_part_cannot_be_a_file_elsewhere(self, model, few, out, tmp_path):
        head, line = (out / JOURNAL).read_text().splitlines()
        evil = json.dumps(json.loads(line) | {"file": f"../../{tmp_path.name}/x.parquet"})
        (out / JOURNAL).write_text(f"{head}\n{evil}\n")
        assert run(model, few, out).kept == 0


class TestFinished:
    @pytest.fixture
    def out(self, model, few, tmp_path) -> Path:
        run(model, few, tmp_path / "out")
        return tmp_path / "out"

    def test_the_same_again_is_kept(self, model, few, out, caplog):
        before = (out / INFER_FILE).read_bytes(), (out / PREDICTIONS_FILE).stat().st_mtime_ns
        assert run(model, few, out) == InferResult.read(out / INFER_FILE)
        assert ((out / INFER_FILE).read_bytes(), (out / PREDICTIONS_FILE).stat().st_mtime_ns) == before
        assert "is finished, and nothing has changed" in caplog.text

    def test_changed_and_new_images_are_done_and_no_others(self, model, few, out, tmp_path):
        Image.new("RGB", (9, 9), "red").save(few / "0005.png")
        Image.new("RGB", (9, 9), "blue").save(few / "9999.png")
        assert run(model, few, out).kept == 36
        run(model, few, tmp_path / "whole")
        assert (out / PREDICTIONS_FILE).read_bytes() == (tmp_path / "whole" / PREDICTIONS_FILE).read_bytes()

    def test_new_labels_need_no_inference(self, model, few, out, tmp_path):
        (tmp_path / "labels.txt").write_text("0003.png 2\n")
        assert run(model, few, out, labels=tmp_path / "labels.txt").kept == 40
        assert Predictions.read(out / PREDICTIONS_FILE).labels[3] == 2

    def test_another_model_is_refused_by_name(self, compiled, few, out):
        with pytest.raises(OutputError, match=r"holds a finished run that differs in model: choose another output, or"):
            run(compiled("null", 8), few, out)
        assert run(compiled("null", 8), few, out, existing="update").kept == 0

    def test_another_limit_is_refused_by_name(self, model, few, out):
        with pytest.raises(OutputError, match="differs in limit"):
            run(model, few, out, limit=8)

    def test_force_does_all_anew(self, model, few, out):
        assert run(model, few, out, existing="replace").kept == 0

    def test_an_edited_predictions_file_is_not_believed(self, model, few, out):
        (out / PREDICTIONS_FILE).write_bytes((out / PREDICTIONS_FILE).read_bytes() + b"x")
        assert run(model, few, out).kept == 0


def test_two_runs_in_one_place_are_refused(model, few, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-hang:3")
    words = "infer", model.path, "--images", few, "-o", tmp_path / "out"
    first = start(*words)
    while not (tmp_path / "out" / JOURNAL).is_file():
        time.sleep(0.01)
    monkeypatch.delenv(FAULT)
    try:
        with pytest.raises(OutputError, match=r"journal\.jsonl: another run is writing here; wait for it, or choose"):
            run(model, few, tmp_path / "out")
    finally:
        first.kill()
        first.communicate()
    assert run(model, few, tmp_path / "out").images == 40
