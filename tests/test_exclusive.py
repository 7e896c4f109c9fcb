"""Whether the machine is ours alone: real busy processes of ours and of others, and stand-ins for the vendors' tools."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from modelport import exclusive
from modelport.exclusive import busy_limit, warn_if_busy, watch
from modelport.host import usable_cores
from modelport.measure.bench import bench
from modelport.results import BenchResult, Hygiene

MODELPORT = Path(sys.executable).with_name("modelport")
SPIN = "while True: pass"
ORPHAN = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
import os; os._exit(0)
"""
NPU_INFO = """\
+-----------------------------------------------------------------------------------------+
| npu-smi 22.0.4                       Version: 22.0.4                                    |
+------------------+-----------------+----------------------------------------------------+
| NPU     Name     | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device   | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+==================+=================+====================================================+
| 0       310      | OK              | 12.8         45                0    / 0              |
| 0       0        | 0000:07:00.0    | 0            2621 / 8192                             |
+==================+=================+====================================================+
| 2       310      | OK              | 12.8         61                0    / 0              |
| 1       5        | 0000:0A:00.0    | 87           2701 / 8192                             |
+==================+=================+====================================================+
| NPU     Chip     | Process id      | Process name             | Process memory(MB)      |
+==================+=================+====================================================+
| 2       1        | 4194999         | python3                  | 95                      |
| 0       0        | $PPID           | ourselves                | 95                      |
+==================+=================+====================================================+
"""
IDLE_NPU_INFO = "\n".join(NPU_INFO.replace("87  ", "0   ").splitlines()[:-3]) + (
    "\n| No running processes found in NPU 0                                                    |\n"
)
NVIDIA = """case "$1" in --query-gpu*) printf '0, 3\\n1, 85\\n';; *) printf "4194999, /opt/train, v2/python\\n$PPID, us\\n";; esac"""


class Clock(NamedTuple):
    """What psutil answers, as far as it is read."""

    current: float


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`tool(name, script)`: a stand-in on PATH. The real ones, where there are any, are hidden by silent ones."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    for name in ("npu-smi", "nvidia-smi"):
        make(name, "exit 0")
    return make


@pytest.fixture
def orphans() -> Iterator[Callable[[], list[int]]]:
    """`orphans()`: one busy process per core that descends from none of ours."""
    made: list[int] = []

    def make() -> list[int]:
        for _ in range(usable_cores()):
            done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True)
            made.append(int(done.stdout))
        return made

    yield make
    for pid in made:
        os.kill(pid, signal.SIGKILL)


def cpu_of(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def test_others_are_seen_before_and_meanwhile(orphans, tool):
    pids = orphans()
    before = cpu_of(pids)
    begun = time.monotonic()
    with watch() as watched:
        time.sleep(1.0)
    used = (cpu_of(pids) - before) / (time.monotonic() - begun)

    hygiene = watched.hygiene
    assert hygiene.busy
    assert hygiene.busy_during > used / 2  # most of what we know them to have used
    assert hygiene.busy_before > busy_limit()
    assert len(hygiene.reasons) == 2
    for reason, when in zip(hygiene.reasons, ("just before", "meanwhile"), strict=True):
        assert reason.startswith("other processes used ")
        assert f" cores {when} (most by " in reason
    assert hygiene.device_busy is None


def test_our_children_are_ours_whatever_their_session(tool):
    """As many as there are cores: counted as others', they would fill the machine."""
    children = [
        subprocess.Popen([sys.executable, "-c", SPIN], start_new_session=session % 2 == 0)
        for session in range(usable_cores())
    ]
    try:
        time.sleep(0.5)
        with watch() as watched:
            before, begun = cpu_of([child.pid for child in children]), time.monotonic()
            time.sleep(1.0)
            used = (cpu_of([child.pid for child in children]) - before) / (time.monotonic() - begun)
    finally:
        for child in children:
            child.kill()
            child.wait()

    assert used > 0.3
    assert watched.hygiene.busy_during < usable_cores() - used + 0.3


def test_who_is_ours(orphans):
    """Children and theirs are ours, an orphan is not; a child that has ended stays in our sum."""
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])"
    stranger = orphans()[0]
    child = subprocess.Popen([sys.executable, "-c", nested], start_new_session=True)
    try:
        while not (grandchildren := psutil.Process(child.pid).children()):
            time.sleep(0.05)
        grandchild = grandchildren[0]
        while sum(grandchild.cpu_times()[:2]) < 0.3:
            time.sleep(0.05)
        alive = exclusive._sample()
        grandchild.kill()
        child.wait()
    finally:
        child.kill()
        child.wait()
    ended = exclusive._sample()

    others = {pid for pid, _ in alive.others}
    assert stranger in others
    assert not others & {os.getpid(), child.pid, grandchild.pid}
    assert alive.ours >= 0.3
    assert ended.ours >= alive.ours


def test_too_short_to_tell(tool):
    with watch() as watched:
        pass

    assert watched.hygiene.busy_during is None
    assert watched.hygiene.busy_before >= 0


def test_our_own_work_is_not_held_against_us(tool):
    """What we use ourselves is subtracted, so that what is left leaves room for it."""
    with watch() as watched:
        begun, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - begun < 1.0:
            pass
        used = (time.process_time() - cpu) / (time.monotonic() - begun)

    assert watched.hygiene.busy_during < usable_cores() - used + 0.2


def test_a_failed_measurement_has_no_hygiene():
    with pytest.raises(RuntimeError, match="mine"), watch() as watched:
        raise RuntimeError("mine")
    assert watched.hygiene is None


def sample(at: float, busy: float, ours: float, **others: float) -> exclusive._Sample:
    """`name=seconds` of other processes; their pids are their places from 1."""
    processes = {(pid, 0.0): exclusive._Process(pid, name, cpu) for pid, (name, cpu) in enumerate(others.items(), 1)}
    return exclusive._Sample(at, busy, ours, processes)


def test_arithmetic_of_two_samples():
    start, end = sample(10, 100, 40, make=5, ssh=1), sample(12, 103.5, 41.5, make=5.5, ssh=1.1, new=1.2)

    cores, top = exclusive._others(start, end)

    assert cores == pytest.approx(1.0)
    assert (top.name, top.pid, top.cpu_s) == ("new", 3, pytest.approx(0.6))
    assert exclusive._others(start, sample(11, 101, 42, make=5, ssh=1)) == (0.0, None)  # rounding never goes below


def test_the_limit_grows_with_the_machine(monkeypatch):
    monkeypatch.setattr(exclusive, "usable_cores", lambda: 4)
    assert busy_limit() == 0.15
    monkeypatch.setattr(exclusive, "usable_cores", lambda: 64)
    assert busy_limit() == pytest.approx(1.28)


def test_a_busy_npu_is_named_and_our_own_process_is_not(tool):
    tool("npu-smi", f'test "$1" = info && cat <<END\n{NPU_INFO}END')

    assert exclusive._busy_devices(utilisation=True) == [
        "NPU 2 chip 1 was 87 % busy",
        "python3 (pid 4194999) uses NPU 2",
    ]
    assert exclusive._busy_devices(utilisation=False) == ["python3 (pid 4194999) uses NPU 2"]


def test_an_idle_npu_is_no_reason(tool):
    tool("npu-smi", f"cat <<END\n{IDLE_NPU_INFO}END")

    assert exclusive._busy_devices(utilisation=True) == []


def test_a_busy_gpu_is_named(tool):
    tool("nvidia-smi", NVIDIA)

    assert exclusive._busy_devices(utilisation=True) == [
        "NVIDIA GPU 1 was 85 % busy",
        "/opt/train, v2/python (pid 4194999) uses an NVIDIA GPU",
    ]


@pytest.mark.parametrize(
    "script",
    [
        "exit 9",
        "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'",
        "printf '0, [N/A]\\n\\n| 0 | | |\\n|||||\\n, ,\\n'",
        r"printf '\001\377\n1,_\n| 0 0 | 77 | _ | 9 |\n\000\033\n'",  # both lines would be a process, were it a report
        "printf '| 0 0 | 0000:07:00.0 | NA 2621 / 8192 |\\n'",
    ],
    ids=["fails", "apologises", "holes", "noise", "no figure"],
)
def test_a_tool_that_says_nothing_of_use_is_no_reason(tool, script):
    for name in ("npu-smi", "nvidia-smi"):
        tool(name, script)

    assert exclusive._busy_devices(utilisation=True) == []


def test_a_tool_that_hangs_is_left(tool, monkeypatch):
    monkeypatch.setattr(exclusive, "_TOOL_S", 0.2)
    tool("npu-smi", "exec sleep 60")

    assert exclusive._busy_devices(utilisation=True) == []


def test_a_tool_that_cannot_be_started_is_no_reason(tool, tmp_path):
    (tmp_path / "tools" / "npu-smi").write_bytes(b"\x7fELF broken")

    assert exclusive._busy_devices(utilisation=True) == []


def test_a_busy_device_marks_the_measurement(compiled, tool, caplog, tmp_path):
    tool("npu-smi", f"cat <<END\n{NPU_INFO}END")

    result = bench(compiled("null"), rounds=2, warmup=0)

    hygiene = result.hygiene
    assert hygiene.busy
    assert hygiene.device_busy == "NPU 2 chip 1 was 87 % busy; python3 (pid 4194999) uses NPU 2"
    assert hygiene.reasons[-2:] == ("NPU 2 chip 1 was 87 % busy", "python3 (pid 4194999) uses NPU 2")
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("bench null f32 batch 1: the machine was busy: ")
    assert warning.getMessage().endswith("; measure again when it is idle")
    result.write(tmp_path / "bench.json")
    assert BenchResult.read(tmp_path / "bench.json") == result


def test_no_warning_where_the_machine_was_ours(caplog):
    warn_if_busy("bench", Hygiene(busy_before=0.01))
    warn_if_busy("bench", None)

    assert caplog.records == []


def test_results_of_an_earlier_version_are_read(compiled, tmp_path, tool):
    path = tmp_path / "bench.json"
    bench(compiled("null"), rounds=1, warmup=0).write(path)
    document = json.loads(path.read_text())
    assert document.pop("hygiene")["busy"] in (True, False)
    path.write_text(json.dumps(document))

    assert BenchResult.read(path).hygiene is None


def test_the_command_warns_and_marks_its_table(compiled, tool):
    tool("npu-smi", f"cat <<END\n{NPU_INFO}END")
    words = [MODELPORT, "bench", compiled("null").path, "--rounds", "2", "--warmup", "0"]

    shown = subprocess.run(words, capture_output=True, text=True)

    assert shown.returncode == 0
    assert "modelport: warning: bench null f32 batch 1: the machine was busy: " in shown.stderr
    assert "Batch 1: the machine was busy: " in shown.stdout
    assert "NPU 2 chip 1 was 87 % busy" in shown.stdout


def test_the_clock_is_read_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([2600.0, 1900.0])
    monkeypatch.setattr(psutil, "cpu_freq", lambda: Clock(next(clocks)))
    with watch() as watched:
        pass
    assert watched.hygiene.clock_mhz == (2600.0, 1900.0)


@pytest.mark.parametrize("answer", [None, NotImplementedError("cannot find file"), Clock(0.0)])
def test_a_system_that_tells_no_clock_is_no_error(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def cpu_freq() -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(psutil, "cpu_freq", cpu_freq)
    with watch() as watched:
        pass
    assert watched.hygiene.clock_mhz is None
