"""`guide preprocess` killed, stopped, and run again over changed images."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.errors import DataError, OutputError
from modelport.guide import prepare
from modelport.guide.prepare import MARKER, write_prepared
from modelport.spec import Preprocess

COUNT, KILLS = 400, 10
PREPROCESS = Preprocess(input_size=(3, 32, 32))
QUICK = "import modelport.guide.prepare as p; p._GROUP = 16; from modelport.cli import main; main()"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{number:03}.png")
    return folder


def start(images: Path, out: Path) -> subprocess.Popen[str]:
    words = ["guide", "preprocess", str(images), str(out), "--input-size", "32"]
    return subprocess.Popen([sys.executable, "-c", QUICK, *words], stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARKER}


def test_killed_at_any_instant_it_ends_with_the_same_files(images: Path, tmp_path: Path) -> None:
    out, dice = tmp_path / "out", random.Random(3)
    begin = time.monotonic()
    start(images, tmp_path / "whole").communicate()
    longest = time.monotonic() - begin
    for _ in range(KILLS):
        process = start(images, out)
        time.sleep(dice.uniform(0.2, longest))
        process.kill()
        process.communicate()
    _, told = start(images, out).communicate()

    assert contents(out) == contents(tmp_path / "whole"), told
    assert len(contents(out)) == COUNT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "whole"]


def test_a_signal_says_what_is_kept_and_the_next_run_goes_on(images: Path, tmp_path: Path) -> None:
    process, journal = start(images, tmp_path / "out"), tmp_path / ".out.preparing" / MARKER
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "of 400 images are prepared and kept: the same command goes on there" in told
    _, told = start(images, tmp_path / "out").communicate()
    assert "images are prepared already" in told
    assert len(contents(tmp_path / "out")) == COUNT


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def stopped(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output of which everything is prepared but nothing is in its place: killed just before the end."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(prepare.files, "replace_directory", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_prepared(images, out, PREPROCESS)
    return out


def prepared_now(images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, preprocess: Preprocess = PREPROCESS) -> int:
    """How many images the next run decodes."""
    seen = []
    decode = prepare.Decoder.__call__
    monkeypatch.setattr(prepare.Decoder, "__call__", lambda self, *what: (seen.append(1), decode(self, *what))[1])
    write_prepared(images, out, preprocess)
    return len(seen)


def test_what_is_prepared_is_kept(images, stopped, monkeypatch):
    assert prepared_now(images, stopped, monkeypatch) == 0


def test_a_changed_image_is_prepared_again(images, stopped, monkeypatch):
    Image.new("RGB", (9, 9), "red").save(images / "007.png")
    assert prepared_now(images, stopped, monkeypatch) == 1


def test_another_preprocessing_begins_anew(images, stopped, monkeypatch):
    other = Preprocess(input_size=(3, 32, 32), crop_pct=1.0)
    assert prepared_now(images, stopped, monkeypatch, other) == COUNT


def test_an_image_that_is_gone_leaves_no_file(images, stopped, monkeypatch):
    (images / "007.png").unlink()
    assert prepared_now(images, stopped, monkeypatch) == 0
    assert "007.bin" not in contents(stopped)


@pytest.mark.parametrize("harm", ["cut", "lost", "journal"])
def test_what_is_damaged_is_prepared_again(images, stopped, monkeypatch, harm):
    home = stopped.with_name(".out.preparing")
    if harm == "cut":
        (home / "007.bin").write_bytes(b"x")
    elif harm == "lost":
        (home / "007.bin").unlink()
    else:
        text = (home / MARKER).read_text().splitlines()
        (home / MARKER).write_text("\n".join([text[0], "{", *text[2:]]) + "\n")
    assert prepared_now(images, stopped, monkeypatch) == (128 if harm == "journal" else 1)


def test_bad_images_leave_nothing_behind(images, tmp_path):
    (images / "007.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 400 images cannot be prepared, none was written"):
        write_prepared(images, tmp_path / "out", PREPROCESS)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_two_at_once_are_refused(images, tmp_path):
    process, journal = start(images, tmp_path / "out"), tmp_path / ".out.preparing" / MARKER
    while not journal.is_file() or b"\n" not in journal.read_bytes():
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(OutputError, match="another run is writing here"):
            write_prepared(images, tmp_path / "out", PREPROCESS)
    finally:
        process.kill()
        process.communicate()


def test_journal_lines_name_what_each_file_was_made_from(images, tmp_path):
    write_prepared(images, tmp_path / "out", PREPROCESS)
    head, *lines = (tmp_path / "out" / MARKER).read_text().splitlines()
    assert json.loads(head) == {"preprocess": PREPROCESS.jsonable()}
    assert sum(len(json.loads(line)) for line in lines) == COUNT
