"""Ten thousand images on a Ray cluster of three nodes on this machine, and what kill -9 does to them: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import start
from flat_images import write_images

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data.parts import DIRECTORY, JOURNAL
from modelport.engines.null import FAULT
from modelport.inference import infer
from modelport.results import InferResult

COUNT, BATCH = 10_000, 8
SLOW = "infer-slow:15"  # milliseconds a batch, so that there is a middle to kill in
QUICK_CHECK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_images(tmp_path_factory.mktemp("ray") / "images", COUNT)
    (folder / "0777.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, compiled, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The predictions of one process on this machine."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    infer(compiled("null", BATCH), images, out)
    return (out / PREDICTIONS_FILE).read_bytes()


@pytest.fixture
def cluster(made: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A head without cores and two nodes of one core each."""
    monkeypatch.setenv(FAULT, SLOW)
    return made({"num_cpus": 0, "_system_config": QUICK_CHECK}, {"num_cpus": 1}, {"num_cpus": 1})


def actors() -> list[psutil.Process]:
    """Processes of our own clusters that run shards."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ShardRunner" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_worker(made: Any, driver: subprocess.Popen[str]) -> None:
    actors()[0].kill()


def kill_node(made: Any, driver: subprocess.Popen[str]) -> None:
    node = next(node for node in made.worker_nodes if node.all_processes.get("raylet"))
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)


def kill_driver(made: Any, driver: subprocess.Popen[str]) -> None:
    driver.kill()


def until_the_middle(out: Path, driver: subprocess.Popen[str]) -> None:
    """Wait for three parts."""
    while not (out / JOURNAL).is_file() or len((out / JOURNAL).read_bytes().splitlines()) < 4:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kill", [kill_worker, kill_node, kill_driver])
def test_what_is_killed_in_the_middle_changes_no_byte(
    kill: Callable[..., None], cluster: Any, compiled, images: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = "infer", compiled("null", BATCH).path, "--images", images, "-o", out, "--on", "ray"
    words = *words, "--address", cluster.address
    driver = start(*words)
    until_the_middle(out, driver)

    kill(cluster, driver)
    _, told = driver.communicate(timeout=200)
    if kill is kill_driver:
        assert driver.returncode == -signal.SIGKILL
        kept = sum(json.loads(line)["images"] for line in (out / JOURNAL).read_text().splitlines()[1:])
        driver = start(*words)
        _, told = driver.communicate(timeout=200)
        assert f"{kept} of {COUNT} images are done already" in told

    assert driver.returncode == 0, told
    assert (out / PREDICTIONS_FILE).read_bytes() == undisturbed
    result = InferResult.read(out / INFER_FILE)
    assert (result.images, result.failures) == (COUNT, 1)
    assert [path.name for path in (out / DIRECTORY).iterdir()] == ["journal.jsonl"]
    done = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()[1:-1]]
    assert sum(part["images"] for part in done) == COUNT  # nothing is listed twice
    if kill is kill_node:
        assert "the Ray cluster: a node is gone; what was not finished there is done again" in told
