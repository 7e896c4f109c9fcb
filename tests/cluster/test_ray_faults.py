"""Ten thousand images on a Ray cluster of three nodes on this machine, and what kill -9 does to them: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import modelport, start
from flat_images import write_images

from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data.parts import DIRECTORY, JOURNAL
from modelport.inference import infer
from modelport.results import InferResult

COUNT, BATCH = 10_000, 8


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


def actors() -> list[psutil.Process]:
    """Processes of our own cluster that run shards."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ShardRunner" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_node(cluster: Any) -> Any:
    """End a node as a lost machine does, and return it."""
    node = next(node for node in cluster.worker_nodes if node.all_processes.get("raylet"))
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    return node


def parts(out: Path) -> list[dict[str, Any]]:
    """What the journal lists so far."""
    lines = (out / JOURNAL).read_text().splitlines()[1:] if (out / JOURNAL).is_file() else []
    return [line for line in map(json.loads, lines) if "images" in line]


def until(driver: subprocess.Popen[str], out: Path, count: int) -> None:
    """Wait for that many parts."""
    while len(parts(out)) < count:
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)


def test_a_worker_a_node_and_the_driver_killed_in_the_middle_change_no_byte(
    cluster: Any, compiled, images: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = "infer", compiled("null", BATCH).path, "--images", images, "-o", out, "--on", "ray"
    words = *words, "--address", cluster.address, "--shard-images", COUNT // 16
    driver = start(*words)
    until(driver, out, 2)
    actors()[0].kill()
    until(driver, out, 5)
    lost = kill_node(cluster)
    try:
        until(driver, out, 10)
    finally:
        driver.kill()
        _, told = driver.communicate()
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1)
    assert driver.returncode == -signal.SIGKILL
    assert "; what was not finished there is done again" in told  # of the node, whether we saw it first or Ray did
    kept = sum(part["images"] for part in parts(out))
    assert 0 < kept < COUNT

    assert f"{kept} of {COUNT} images are done already" in modelport(*words)
    assert (out / PREDICTIONS_FILE).read_bytes() == undisturbed
    result = InferResult.read(out / INFER_FILE)
    assert (result.images, result.failures) == (COUNT, 1)
    assert [path.name for path in (out / DIRECTORY).iterdir()] == ["journal.jsonl"]
    assert sum(part["images"] for part in parts(out)) == COUNT  # nothing is listed twice
