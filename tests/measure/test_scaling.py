"""The forecast of a run on a cluster: what limits it, what follows, and where its numbers come from."""

from __future__ import annotations

import json

import pytest
from commands import modelport
from flat_images import write_images

from modelport.engines.null import FAULT
from modelport.engines.session import SessionOptions
from modelport.errors import FormatError
from modelport.inference import infer
from modelport.measure.scaling import DEFAULTS, numbers_of, plan_scale
from modelport.results import ClusterLoad
from modelport.work import InferOptions

BASE = {
    **DEFAULTS,
    "images": 1_000_000,
    "nodes": 10,
    "devices": 4,
    "device_rate": 100.0,
    "commit_s": 0.0,
    "start_s": 0.0,
}


def load(**changes: float) -> ClusterLoad:
    return ClusterLoad.parse(BASE | changes, "test")


def test_devices_that_wait_for_nothing_add_up():
    plan = plan_scale(load(efficiency=1.0))
    assert (plan.limits[0].name, plan.rate) == ("devices", pytest.approx(4000))
    assert plan.wall_s == pytest.approx(250)
    assert (plan.shards, plan.runs) == (977, 1)


def test_a_commit_takes_a_devices_time():
    assert plan_scale(load(shard=100, commit_s=1.0)).limits[0].rate == pytest.approx(2000)


@pytest.mark.parametrize(
    ("changes", "name", "rate"),
    [
        ({"cores": 1, "decode_s": 0.01}, "decoding", 1000),
        ({"network": 1e6, "image_bytes": 1e5}, "network", 100),
        ({"store": 1e6, "image_bytes": 1e5}, "store", 10),
        ({"shard": 10, "journal_s": 1.0}, "driver", 10),
    ],
)
def test_the_lowest_limits(changes, name, rate):
    plan = plan_scale(load(**changes))
    assert (plan.limits[0].name, plan.limits[0].rate) == (name, pytest.approx(rate))
    assert plan.rate == pytest.approx(rate * DEFAULTS["efficiency"])


def test_processors_that_infer_leave_fewer_cores_to_decode_with():
    found = {limit.name: limit.rate for limit in plan_scale(load(cores=6, device_cores=1.0, decode_s=0.01)).limits}
    assert found["decoding"] == pytest.approx(10 * 2 / 0.01)
    with pytest.raises(FormatError, match=r"4 devices of 2 cores leave none of a node's 6 to decode with"):
        plan_scale(load(cores=6, device_cores=2.0))


def test_a_plan_that_does_not_fit_the_driver_is_several_runs():
    plan = plan_scale(load(planned_bytes=500, driver_bytes=200e6, start_s=60.0))
    assert plan.runs == 3
    assert plan.wall_s == pytest.approx(1_000_000 / plan.rate + 180)


def test_a_measured_run_gives_its_numbers(compiled, tmp_path, monkeypatch):
    monkeypatch.setenv(FAULT, "infer-slow:20")
    images = write_images(tmp_path / "images", 40)
    options = InferOptions(session=SessionOptions(streams=1))
    run = infer(compiled("null", 4), images, tmp_path / "out", options=options)
    found = numbers_of(run)
    assert 0 < found["device_rate"] <= 200  # four in 20 ms, or in more
    assert found["device_cores"] == 0
    assert 0 < found["decode_s"] < 0.1

    told = json.loads(shown("--images", 1000, "--nodes", 2, "--like", tmp_path / "out" / "infer.json", "--json"))
    assert told["load"]["device_rate"] == pytest.approx(found["device_rate"])
    assert told["measured"] == ["device_rate", "device_cores", "decode_s"]


def test_a_run_without_devices_says_nothing(compiled, tmp_path):
    run = infer(compiled("null", 4), write_images(tmp_path / "images", 4), tmp_path / "out")
    with pytest.raises(FormatError, match="says nothing of its devices: infer again with this version"):
        numbers_of(run.model_copy(update={"by_device": ()}))


def shown(*words: object) -> str:
    import subprocess
    import sys

    line = [sys.executable, "-m", "modelport", "plan", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def test_the_command_prints_what_limits_and_what_it_knows():
    text = shown("--images", 10**9, "--nodes", 100, "--devices-per-node", 4, "--device-rate", 1000)
    assert "Forecast, not a measurement" in text
    assert "110.0 TB to read" in text
    assert "Taken from a measured run: none." in text


def test_the_command_refuses_numbers_that_cannot_be():
    assert "device_rate: input should be greater than 0" in modelport(
        "plan", "--images", 1, "--nodes", 1, "--device-rate", 0, code=1
    )
    assert "Missing option '--device-rate'" in modelport("plan", "--images", 1, "--nodes", 1, code=2)
