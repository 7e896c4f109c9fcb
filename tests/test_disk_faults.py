"""Disks that are full, slow, or fail in the middle: a clear error or a right result, and finished work intact."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import models
import numpy as np
import pytest
from PIL import Image

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data.parts import JOURNAL
from modelport.data.predictions import Predictions
from modelport.data.source import Sample, Source
from modelport.engines.session import SessionOptions
from modelport.errors import OutputError
from modelport.inference import infer
from modelport.offline import OfflineModel
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.work import InferOptions

COUNT = 400
# No file may grow beyond so many bytes: every write beyond is refused by the system, as on a full disk.
LIMITED = (
    "import resource, signal, sys; n = int(sys.argv.pop(1)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); import modelport.executor as e; e._COMMIT_S = 0.01; "
    "from modelport.cli import main; main()"
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    _, height, width = models.SIZE
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture
def model(compiled) -> OfflineModel:
    return compiled("null", 4)


def run(model: OfflineModel, images: Path | Source, out: Path, **more: object) -> InferResult:
    options = InferOptions(session=SessionOptions(streams=1), pipeline=PipelineOptions(decoders=1))
    return infer(model, images, out, options=options, **more)


@pytest.mark.parametrize("most", [100, 1_000, 4_000, 8_000])
def test_a_full_disk_is_told_in_a_line_and_the_run_goes_on_where_there_is_room(model, images, tmp_path, most):
    """The limit hits the journal, a part, or the whole predictions, as it is smaller or larger."""
    out, words = tmp_path / "out", ["infer", model.path, "--images", images, "--scores", "--streams", "1"]
    command = [sys.executable, "-c", LIMITED, str(most), *map(str, words), "-o", str(out)]

    full = subprocess.run(command, capture_output=True, text=True)

    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("modelport: error: cannot write ")
    assert "File too large" in last
    assert not (out / INFER_FILE).exists()
    again = subprocess.run([*command[:3], "100000000", *command[4:]], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    whole = tmp_path / "whole"
    subprocess.run([*command[:3], "100000000", *map(str, words), "-o", str(whole)], check=True, capture_output=True)
    assert (out / PREDICTIONS_FILE).read_bytes() == (whole / PREDICTIONS_FILE).read_bytes()


def test_an_unwritable_place_is_told_before_any_work(model, images, tmp_path):
    (tmp_path / "file").touch()
    for place, reason in ((tmp_path / "file" / "out", "Not a directory"), (Path("/proc/modelport"), "No such file")):
        with pytest.raises(OutputError, match=rf"^cannot write {place}.*: {reason}"):
            run(model, images, place)


def test_an_image_that_vanishes_in_the_middle_is_counted(model, images, tmp_path):
    def progress(_: str, done: int, __: int) -> None:
        if done == 1:
            (images / "399.png").unlink()

    result = run(model, images, tmp_path / "out", progress=progress)

    assert [(bad.key, bad.reason) for bad in result.bad_images] == [
        ("399.png", "cannot be read: No such file or directory")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc/self/mem, whose first bytes cannot be read")
def test_a_read_error_is_counted_and_tried_again_by_the_next_run(model, images, tmp_path):
    (images / "100.png").unlink()
    (images / "100.png").symlink_to("/proc/self/mem")

    result = run(model, images, tmp_path / "out")

    assert [(bad.key, bad.reason) for bad in result.bad_images] == [("100.png", "cannot be read: Input/output error")]
    (images / "100.png").unlink()
    Image.new("RGB", (9, 9), "red").save(images / "100.png")
    mended = run(model, images, tmp_path / "out")
    assert (mended.failures, mended.kept) == (0, COUNT - 4)


class SlowPath(type(Path())):
    """A file on a slow disk."""

    def __fspath__(self) -> str:
        time.sleep(0.005)
        return super().__fspath__()


def test_a_slow_disk_is_named_as_what_limits(model, images, tmp_path):
    samples = tuple(Sample(path.name, SlowPath(path)) for path in sorted(images.iterdir())[:100])

    result = run(model, Source(str(images), samples), tmp_path / "out")

    assert result.limiting_stage.name == "read"
    assert not result.failures


def test_the_journal_lists_only_what_is_on_disk(model, images, tmp_path):
    """Killed by SIGKILL in the middle, every part that is listed is there with the digest that is listed."""
    from modelport.files import digest

    out = tmp_path / "out"
    words = ["infer", model.path, "--images", images, "--streams", "1", "-o", out]
    process = subprocess.Popen(
        [sys.executable, "-c", LIMITED, "100000000", *map(str, words)], stderr=subprocess.DEVNULL
    )
    while not (out / JOURNAL).is_file() or (out / JOURNAL).read_bytes().count(b"\n") < 3:
        time.sleep(0.001)
        assert process.poll() is None, "the run ended before it could be killed"
    process.kill()
    process.wait()

    parts = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()[1:]]
    assert parts
    for part in parts:
        path = out / ".parts" / part["file"]
        assert digest(path) == part["sha256"]
        assert len(Predictions.read(path).keys) == part["images"]
