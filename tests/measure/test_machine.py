"""The machine as the system's own files tell it: trees of such files are built here, and the real one is read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.host import core_numbers
from modelport.measure import machine


def tree(root: Path, **texts: str) -> Path:
    """Files below `root`; in their names `__` stands for `/` and `_dot_` for a dot."""
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine():
    found = machine.processor()
    assert found.usable_cores == len(core_numbers()) <= found.logical_cores
    assert set(found.arithmetic) == {"AVX2", "AVX-512", "VNNI (int8)", "bf16", "fp16", "AMX (int8)", "AMX (bf16)"}
    memory = machine.memory()
    assert 0 < memory.available <= memory.total
    assert memory.limit is None or memory.limit < memory.total


def test_nothing_is_told_where_the_system_says_nothing(tmp_path):
    found = machine.processor(tmp_path)
    assert (found.quota_cores, found.governor, found.virtual, found.container) == (None, None, False, None)
    assert machine.memory(tmp_path).limit is None
    assert [device for device in machine.accelerators(tmp_path) if device.told_by == "PCI bus"] == []


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys__fs__cgroup__cpu_dot_max": "max 100000\n"}, None),
        ({"sys__fs__cgroup__cpu_dot_max": "150000 100000\n"}, 1.5),
        (
            {
                "proc__self__cgroup": "0::/a/b\n",
                "sys__fs__cgroup__a__cpu_dot_max": "50000 100000\n",
                "sys__fs__cgroup__a__b__cpu_dot_max": "400000 100000\n",
            },
            0.5,
        ),
        ({"proc__self__cgroup": "0::/../../other\n", "sys__fs__cgroup__cpu_dot_max": "200000 100000\n"}, 2.0),
        (
            {
                "sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us": "300000\n",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cpu_dot_cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"sys__fs__cgroup__cpu_dot_max": "rubbish\n"}, None),
    ],
    ids=["none", "own", "the least above", "outside", "version 1", "version 1 none", "rubbish"],
)
def test_a_control_groups_time(tmp_path, files, cores):
    assert machine.quota_cores(tree(tmp_path, **files)) == cores


def test_a_control_groups_memory(tmp_path):
    assert machine.memory(tree(tmp_path, sys__fs__cgroup__memory_dot_max="1048576\n")).limit == 1 << 20
    assert machine.memory(tree(tmp_path, sys__fs__cgroup__memory_dot_max=f"{1 << 62}\n")).limit is None  # no limit


def test_clock_container_and_virtual_machine(tmp_path):
    first = core_numbers()[0]
    files = {
        f"sys__devices__system__cpu__cpu{first}__cpufreq__scaling_governor": "powersave\n",
        "proc__cpuinfo": "processor : 0\nflags\t\t: fpu hypervisor avx2\n",
        "_dot_dockerenv": "",
    }
    found = machine.processor(tree(tmp_path, **files))
    assert (found.governor, found.virtual, found.container) == ("powersave", True, "docker")


def device(root: Path, name: str, kind: str, vendor: str, driver: str | None = None) -> None:
    folder = root / "sys/bus/pci/devices" / name
    folder.mkdir(parents=True)
    (folder / "class").write_text(f"{kind}\n")
    (folder / "vendor").write_text(f"{vendor}\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True)
        (folder / "driver").symlink_to(root / "drivers" / driver)


def test_devices_on_the_bus_that_no_tool_tells(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    device(tmp_path, "0000:01:00.0", "0x030200", "0x10de")
    device(tmp_path, "0000:02:00.0", "0x120000", "0x19e5", driver="davinci")
    device(tmp_path, "0000:03:00.0", "0x030000", "0x1234")  # a virtual screen
    device(tmp_path, "0000:04:00.0", "0x020000", "0x8086")  # a network card
    gpu, npu = machine.accelerators(tmp_path)
    assert (gpu.name, gpu.detail) == ("NVIDIA graphics 0000:01:00.0", "no driver")
    assert gpu.problem == "the system has no driver loaded for it"
    assert (npu.name, npu.detail, npu.problem) == ("Huawei accelerator 0000:02:00.0", "driver davinci", None)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """`tool(name, script)`: a stand-in, and nothing else of its kind, on PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


def test_makers_tools_tell_devices(tmp_path, tool):
    tool("nvidia-smi", "echo 'NVIDIA H100, 80GB HBM3, 81559, 550.54.15'")
    tool(
        "npu-smi",
        "echo '| 0       310      | OK              | 12.8 |'; echo '| 2       310P3    | Warning         | 1 |'",
    )
    device(tmp_path, "0000:01:00.0", "0x030200", "0x10de", driver="nvidia")  # told by the tool already
    gpu, first, second = machine.accelerators(tmp_path)
    assert (gpu.name, gpu.detail, gpu.problem) == ("NVIDIA H100, 80GB HBM3", "81559 MiB, driver 550.54.15", None)
    assert (first.name, first.detail, first.problem) == ("Ascend 310", "card 0", None)
    assert second.problem == "its health is Warning"


def test_a_tool_that_fails_is_a_device_with_a_problem(tmp_path, tool):
    tool("nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not talk to the driver.'; exit 9")
    (gpu,) = machine.accelerators(tmp_path)
    assert gpu.problem == "NVIDIA-SMI has failed because it could not talk to the driver."


def test_the_driver_tells_where_its_tool_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version: 12\n"
    gpus = {"0000:01:00.0": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 16\n", "0000:02:00.0": "IRQ: 17\n"}
    for bus, text in gpus.items():
        (tmp_path / "proc/driver/nvidia/gpus" / bus).mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/gpus" / bus / "information").write_text(text)
    (tmp_path / "proc/driver/nvidia/version").write_text(version)
    device(tmp_path, "0000:01:00.0", "0x030200", "0x10de", driver="nvidia")
    first, second = machine.accelerators(tmp_path)
    assert (first.name, first.detail, first.told_by) == (
        "NVIDIA H100 80GB HBM3",
        "driver 550.54.15",
        "the NVIDIA driver",
    )
    assert (second.name, second.problem) == ("0000:02:00.0", None)


def test_a_tool_that_does_not_answer(monkeypatch, tool):
    monkeypatch.setattr(machine, "_TOOL_S", 0.2)
    tool("nvidia-smi", "exec /bin/sleep 60")
    assert machine.run_tool("nvidia-smi") == (-1, "", "nvidia-smi did not answer within 0.2 s")
    assert machine.run_tool("no-such-tool")[:2] == (-1, "")
