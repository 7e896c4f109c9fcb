"""`benchmarks/gpu.py` without a GPU: its network is timm's, it runs through on the processor with nothing but what it says it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from places import ROOT

torch = pytest.importorskip("torch")

from benchmarks.on_gpu import decode_worker, feeding, table  # noqa: E402
from benchmarks.on_gpu.clock import Contestant, Device  # noqa: E402
from benchmarks.on_gpu.compiling import Job, Place, compile_all  # noqa: E402
from benchmarks.on_gpu.correct import compare  # noqa: E402
from benchmarks.on_gpu.network import CSPRESNEXT50, SMALL, CspResNeXt, normalised, randomised, work  # noqa: E402
from benchmarks.on_gpu.photos import Photos, jpegs  # noqa: E402
from benchmarks.on_gpu.record import Record  # noqa: E402

NOT_NEEDED = (
    "timm",
    "pydantic",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "click",
    "rich",
    "pyarrow",
    "archspec",
    "psutil",
)


def test_the_network_is_timms():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs, ours = timm.create_model("cspresnext50").eval(), CspResNeXt(CSPRESNEXT50).eval()
    state = theirs.state_dict()
    assert [(name, value.shape) for name, value in ours.state_dict().items()] == [
        (n, v.shape) for n, v in state.items()
    ]
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert 6.1e9 < work(ours, 224).operations < 6.2e9


def test_random_weights_decide_by_what_the_photo_shows():
    photos = Photos("cpu", 32, SMALL.classes)
    network = randomised(SMALL, photos, batches=4)
    pixels, classes = Photos("cpu", 32, SMALL.classes, seed=9)(64)
    with torch.no_grad():
        scores = network(normalised(pixels))
    assert (scores.argmax(1) == classes).float().mean() > 0.8
    assert pixels.shape == (64, 32, 32, 3)
    assert pixels.float().std() > 20  # no grey board


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A smoke run whose processes cannot import what a bare machine lacks: its record, and what it printed."""
    folder = tmp_path_factory.mktemp("gpu")
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in NOT_NEEDED)
    (folder / "sitecustomize.py").write_text(f"import sys\n{blocked}")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")]),
        "OMP_NUM_THREADS": "1",
    }
    line = [
        sys.executable,
        "benchmarks/gpu.py",
        "--device",
        "cpu",
        "--quick",
        "--minutes",
        "30",
        "--out",
        str(folder / "out"),
    ]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads((folder / "out" / "gpu.json").read_text()), done.stdout


@pytest.mark.timeout(900)
class TestARun:
    def test_every_step_comes_to_its_end(self, run):
        record, _ = run
        assert record["failed"] == []
        assert record["left_out"] == ["copying and computing apart: a processor copies nothing"]
        assert set(record["steps_s"]) >= {"compiling", "correctness", "pure inference", "end to end"}

    def test_it_is_right_first(self, run):
        checks = run[0]["correctness"]
        assert checks["on_the_processor"]["error"] < 1e-5
        assert checks["decisions"]["same"] == 1
        assert checks["decisions"]["classes_decided_for"] > 3

    def test_all_are_timed_side_by_side(self, run):
        ((batch, pure),) = run[0]["pure"].items()
        names = {"eager", "eager, channels last", "torch.compile default", "modelport default, channels last"}
        assert (batch, set(pure["contestants"])) == ("4", names)
        assert set(pure["ratios"]) == names - {"modelport default, channels last"}
        assert all(told["images_per_s"] > 0 and len(told["turns_s"]) == 2 for told in pure["contestants"].values())

    def test_what_was_compiled_before_is_found(self, run):
        (pure,) = run[0]["pure"].values()
        hits = sum(count for name, count in pure["compiler_cache"].items() if "hit" in name)
        misses = sum(count for name, count in pure["compiler_cache"].items() if "miss" in name)
        assert hits > 0
        assert misses == 0

    def test_three_ways_end_to_end(self, run):
        ways = run[0]["end_to_end"]
        assert all(told["images_per_s"] > 0 and told["limited_by"] in ("filling", "device") for told in ways.values())
        assert ways["JPEG, decoded on the GPU"]["against_pillow"]["largest_difference"] <= 4
        assert len(ways) == 3

    def test_a_table_comes_last(self, run):
        text = run[1]
        assert "decisions equal to float32's on 32 photos: 100.00% (asked 99.5%: reached)" in text
        assert "best / torch.compile default" in text
        assert text.splitlines()[-1].startswith("spent ")


def test_without_a_gpu_it_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = [sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        line, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "there is no GPU here that PyTorch can use; --device cpu --quick tries the code without one\n"
    )


class TestCompiling:
    PLACE = Place("", small=True, size=32, device="cpu", dtype="f32")

    def test_what_is_late_is_ended_and_what_waits_is_not_begun(self, tmp_path):
        end, told = time.monotonic() + 0.5, []
        place = Place(str(tmp_path), small=True, size=32, device="cpu", dtype="f32")
        jobs = [Job("package", 1), Job("package", 2)]
        found = compile_all(jobs, place, at_once=1, threads=1, left=lambda: end - time.monotonic(), told=told.append)
        assert [outcome.reason for outcome in found] == ["not compiled after 1 s", "not begun"] or [
            outcome.reason for outcome in found
        ] == ["not compiled after 0 s", "not begun"]
        assert told == found

    def test_a_child_that_fails_tells_its_last_line(self, tmp_path):
        place = Place(str(tmp_path), small=True, size=32, device="cpu", dtype="f32")  # where there are no weights
        (found,) = compile_all([Job("package", 1)], place, at_once=1, threads=1, left=lambda: 60, told=lambda _: None)
        assert "exit 1: FileNotFoundError" in found.reason
        assert "weights.pt" in found.reason


class TestFeeding:
    def test_pixels_come_out_of_the_shards_in_order(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
        shards = feeding.PixelShards(tmp_path, pixels, 2, 3)
        try:
            slots = np.zeros((2, 5, 4, 4, 3), np.uint8)
            for number in range(4):
                shards.begin_in(slots)(number % 2, number)()
                every = np.concatenate([pixels, np.roll(pixels, 1, axis=0)] * 2)
                assert np.array_equal(slots[number % 2], every[5 * number : 5 * number + 5])
        finally:
            shards.close()

    def test_processes_and_threads_decode_the_same(self):
        files = jpegs("cpu", 10, 3)
        expected = np.stack([decode_worker.pixels(files[number % 3], 16) for number in range(20)])
        for kind in ("threads", "processes"):
            with feeding.shared_slots(2, 20, 16) as (name, slots):
                with feeding.decoders(kind, files, name, slots, 2) as begin:
                    slots[:] = 0
                    begin(1, 3)()  # its first image is number 60
                    assert np.array_equal(slots[1], expected)
                    assert not slots[0].any()

    def test_no_slot_is_filled_before_it_was_taken(self):
        """A runner that checks that each batch still is what was filled when it is handed over."""

        class Runner:
            def __init__(self):
                self.seen: list[int] = []

            def submit(self, batch):
                assert (batch == batch.flat[0]).all()
                self.seen.append(int(batch.flat[0]))

            def wait(self, ticket):
                return None

        slots, runner = np.zeros((3, 2, 4, 4, 3), np.uint8), Runner()

        def begin(slot, number):
            return partial(slots[slot].fill, number % 256)

        told = feeding.feed(runner, begin, slots, buffers=2, seconds=0.02)
        assert runner.seen == [number % 256 for number in range(told["batches"])]


def test_turns_are_interleaved():
    order = []
    device = Device("cpu")
    found = device.interleaved({name: Contestant(partial(order.append, name)) for name in "ab"}, turns=3, seconds=0.0)
    assert "".join(order[16:]) == "ab" + "ba" + "ab"
    assert [len(timing.seconds) for timing in found.values()] == [3, 3]


def test_scores_that_are_not_finite_never_pass():
    expected = torch.ones(2, 3)
    check = compare(torch.full((2, 3), float("nan")), expected)
    assert not check.error <= 1e9


def test_the_record_keeps_what_was_measured_when_a_step_fails(tmp_path):
    record = Record(tmp_path / "out" / "gpu.json", 60)
    with record.step("first"):
        record.put("limits", {"copy_bytes_per_s": 1.0})
    with record.step("second"):
        raise RuntimeError("CUDA error\nand more")
    saved = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert saved["limits"] == {"copy_bytes_per_s": 1.0}
    assert saved["failed"] == ["second: RuntimeError: CUDA error"]


def figures(rate: float, ratio: float) -> dict:
    return {
        "best": "modelport default",
        "contestants": {
            "modelport default": {"images_per_s": rate},
            "torch.compile default": {"images_per_s": rate / ratio},
        },
        "ratios": {"torch.compile default": {"median": ratio}},
    }


def test_the_table_tells_what_was_missed():
    record = {
        "pure": {"1": figures(900, 1.9), "256": figures(16_000, 1.2), "8": figures(5_000, 1.1)},
        "left_out": [
            "modelport default, batch 4: not compiled after 31 s",
            "modelport default, batch 16: not compiled after 7 s",
        ],
    }
    text = "\n".join(table.lines(record))
    assert "asked 1.15 at every batch, 2 at batch 1: MISSED at batch 1, 8" in text
    assert "batch 256: 16,000 images a second (asked 15,000: reached)" in text
    assert "LEFT OUT: modelport default, batch 4, 16: not compiled after its time" in text
