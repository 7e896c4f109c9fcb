"""Several devices on one processor: equal parts of its cores, one session on each, fed from one queue."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import models
import numpy as np
import pytest
from flat_images import write_images

from modelport import engines
from modelport.accuracy import PREDICTIONS_FILE
from modelport.engines.devices import DevicesSession, split_cores
from modelport.engines.null import FAULT
from modelport.engines.session import Session, SessionOptions
from modelport.errors import EngineUnavailableError
from modelport.host import pinned
from modelport.inference import infer
from modelport.measure.bench import bench
from modelport.work import InferOptions

CORES = sorted(os.sched_getaffinity(0))
TWO = SessionOptions(devices=(0, 1))
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")


@needs_two_cores
def test_parts_are_equal_apart_and_whole():
    first, second = split_cores("x", SessionOptions(devices=(0, 1), streams=1))
    assert abs(len(first.cores) - len(second.cores)) <= 1
    assert sorted(first.cores + second.cores) == CORES
    assert (first.threads, first.devices, second.devices) == (len(first.cores), (0,), (1,))


@needs_two_cores
def test_threads_are_cores_in_all():
    parts = split_cores("x", SessionOptions(devices=(0, 1), threads=2))
    assert [part.cores for part in parts] == [(CORES[0],), (CORES[1],)]


def test_one_device_is_the_whole_processor():
    options = SessionOptions(threads=1)
    assert split_cores("x", options) == [options]


def test_devices_are_the_first_numbers(compiled):
    with pytest.raises(
        EngineUnavailableError, match=r"whose devices are parts of its cores: 2 of them are 0,1, not 0,3"
    ):
        engines.open_model(compiled("null"), SessionOptions(devices=(0, 3)))


def test_there_are_no_more_devices_than_cores(compiled):
    devices = tuple(range(len(CORES) + 1))
    with pytest.raises(EngineUnavailableError, match=rf"whose {len(CORES)} cores make no {len(devices)} devices"):
        engines.open_model(compiled("null"), SessionOptions(devices=devices))


@needs_two_cores
@pytest.mark.parametrize("engine", ["null", "onnxruntime", "openvino"])
def test_every_device_answers_as_the_whole_processor_does(compiled, engine):
    batches = [models.images(2, seed) for seed in range(12)]
    with engines.open_model(compiled(engine, 2), TWO) as session:
        assert (type(session), session.slots, list(session.by_device)) == (DevicesSession, 2, ["0", "1"])
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(session.infer, batches))
    wanted = models.null_scores if engine == "null" else models.expected_scores
    for batch, scores in zip(batches, found, strict=True):
        np.testing.assert_allclose(scores, wanted(batch), rtol=1e-4, atol=1e-4)


@needs_two_cores
def test_a_batch_runs_on_its_devices_cores_and_the_caller_gets_its_own_back(compiled, monkeypatch):
    seen = set()
    original = type(engines.open_model(compiled("null", 2)))._infer

    def noting(self: Session, batch: np.ndarray) -> np.ndarray:
        seen.add((self.device, tuple(sorted(os.sched_getaffinity(0)))))
        return original(self, batch)

    with engines.open_model(compiled("null", 2), TWO) as session:
        monkeypatch.setattr(type(session.by_device["0"]), "_infer", noting)
        for _ in range(4):
            session.infer(models.images(2))
        assert seen == {(name, part.cores) for name, part in session.by_device.items()}
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_pinned_gives_back_after_an_error():
    with pytest.raises(KeyError), pinned((CORES[0],)):
        raise KeyError
    assert sorted(os.sched_getaffinity(0)) == CORES


def test_closing_closes_all(compiled):
    if len(CORES) < 2:
        pytest.skip("needs two cores")
    session = engines.open_model(compiled("null"), TWO)
    session.close()
    assert all(part._closed for part in session.by_device.values())


@needs_two_cores
def test_infer_tells_what_each_device_did(compiled, tmp_path: Path):
    images = write_images(tmp_path / "images", 81)
    model = compiled("null", 4)
    result = infer(model, images, tmp_path / "two", options=InferOptions(session=TWO))
    assert [device.name for device in result.by_device] == ["0", "1"]
    assert sum(device.images for device in result.by_device) == 81  # padding is no image
    assert all(0 < device.busy_share <= 1 and device.throughput > 0 for device in result.by_device)
    assert 0 < result.scaling <= 2.01
    infer(model, images, tmp_path / "one")
    assert (tmp_path / "two" / PREDICTIONS_FILE).read_bytes() == (tmp_path / "one" / PREDICTIONS_FILE).read_bytes()


@needs_two_cores
def test_bench_runs_one_alone_first_and_says_how_it_scales(compiled, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-slow:10")  # asleep, so that both devices get their share
    result = bench(compiled("null", 4), rounds=20, warmup=2, options=TWO)
    assert [device.name for device in result.by_device] == ["0", "1"]
    assert sum(device.images for device in result.by_device) == 80
    assert all(device.images for device in result.by_device)
    assert 0 < result.alone <= 400  # four images in 10 ms, or in more
    assert result.scaling == result.throughput / result.alone
    assert bench(compiled("null", 4), rounds=4).scaling is None
