"""The machine under us, read from what the system says of itself: processor, clock, control groups, memory, accelerators.

Every function takes the root of the file system that it reads, so that tests can build a machine out of files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..host import core_numbers, fingerprint
from ..results import Accelerator, Memory, Processor

ROOT = Path("/")
_KINDS = {  # arithmetic that networks are fast in: flags of which one is enough
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI (int8)": ("avx512_vnni", "avx_vnni", "asimddp", "i8mm"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "AMX (int8)": ("amx_int8",),
    "AMX (bf16)": ("amx_bf16",),
}
_TOOL_S = 3.0
_DISPLAY_CLASSES, _ACCELERATOR_CLASS = ("0x0300", "0x0302", "0x0380"), "0x1200"  # PCI classes, first four digits
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x19e5": "Huawei"}
_NPU = re.compile(r"^\|\s*(\d+)\s+(\S+)[^|]*\|\s*(OK|Warning|Alarm|Critical|UNKNOWN)\b", re.IGNORECASE)
_NVIDIA_QUERY = "name,memory.total,driver_version"


def processor(root: Path = ROOT) -> Processor:
    """What the processor offers, and what of it this process may use."""
    flags = set(fingerprint().features)
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return Processor(
        arithmetic={kind: bool(flags & set(any_of)) for kind, any_of in _KINDS.items()},
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count() or 1,
        usable_cores=len(core_numbers()),
        quota_cores=quota_cores(root),
        governor=_governor(root),
        mhz=frequency.current or None if frequency else None,
        most_mhz=frequency.max or None if frequency else None,
        virtual=bool(re.search(r"^flags\s*:.*\bhypervisor\b", _text(root / "proc/cpuinfo"), re.MULTILINE)),
        container=_container(root),
    )


def memory(root: Path = ROOT) -> Memory:
    """Main memory, and what the control group leaves of it."""
    found = psutil.virtual_memory()
    limits = [int(text) for text in _controls(root, "memory.max", "memory/memory.limit_in_bytes") if text.isdecimal()]
    limit = min(limits, default=None)
    if limit is not None and limit >= found.total:  # how "none" is written
        limit = None
    return Memory(total=found.total, available=found.available, limit=limit)


def quota_cores(root: Path = ROOT) -> float | None:
    """Cores' worth of processor time that the control groups above this process give it, the least of them; None: no limit."""
    found = []
    for text in _controls(root, "cpu.max", None):  # version 2: "QUOTA PERIOD" or "max PERIOD"
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    for folder in ("cpu", "cpu,cpuacct"):  # version 1
        quota, period = (_text(root / f"sys/fs/cgroup/{folder}/cpu.cfs_{what}_us") for what in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _controls(root: Path, name: str, name_in_v1: str | None) -> Iterator[str]:
    """What a control says in our group and in all above it."""
    top = root / "sys/fs/cgroup"
    match = re.search(r"^0::(/.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    group = Path(match[1].lstrip("/")) if match else Path()
    for place in (group, *group.parents):
        if ".." not in place.parts:  # of a namespace that we cannot look into
            yield _text(top / place / name)
    if name_in_v1:
        yield _text(top / name_in_v1)


def _governor(root: Path) -> str | None:
    """The clock governor of the cores that we may use; several are named with commas between."""
    cores = root / "sys/devices/system/cpu"
    found = (_text(cores / f"cpu{number}/cpufreq/scaling_governor") for number in core_numbers())
    return ", ".join(sorted({name for name in found if name})) or None


def _container(root: Path) -> str | None:
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / "var/run/secrets/kubernetes.io").exists():
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    match = re.search(r"docker|kubepods|lxc|containerd|libpod", _text(root / "proc/1/cgroup"))
    return match[0] if match else None


# -- accelerators


def accelerators(root: Path = ROOT) -> tuple[Accelerator, ...]:
    """Devices besides the processor: those that their makers' tools name, and those that the system sees without such a tool."""
    nvidia, npu = _nvidia() or _nvidia_driver(root), _npu()
    told = {"NVIDIA": bool(nvidia), "Huawei": bool(npu)}
    unused = [device for vendor, device in _pci(root) if not told.get(vendor)]
    if (root / "dev/accel").is_dir():
        unused += [
            Accelerator(name=f"accelerator {entry.name}", told_by="/dev/accel", detail="such as an Intel NPU")
            for entry in sorted((root / "dev/accel").iterdir())
        ]
    return (*nvidia, *npu, *unused)


def _nvidia() -> list[Accelerator]:
    if shutil.which("nvidia-smi") is None:
        return []
    code, out, err = run_tool("nvidia-smi", f"--query-gpu={_NVIDIA_QUERY}", "--format=csv,noheader,nounits")
    if code != 0:
        reason = (err or out).strip().splitlines() or [f"exit code {code}"]
        return [Accelerator(name="NVIDIA GPU", told_by="nvidia-smi", detail="not usable", problem=reason[0])]
    rows = [[cell.strip() for cell in line.rsplit(",", 2)] for line in out.splitlines()]
    return [
        Accelerator(name=row[0], told_by="nvidia-smi", detail=f"{row[1]} MiB, driver {row[2]}")
        for row in rows
        if len(row) == 3
    ]


def _nvidia_driver(root: Path) -> list[Accelerator]:
    """What the driver itself tells where nvidia-smi is not installed, as in many containers."""
    folder = root / "proc/driver/nvidia"
    match = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)", _text(folder / "version"))
    found = []
    for gpu in sorted((folder / "gpus").glob("*")):
        model = re.search(r"^Model:\s*(.+)$", _text(gpu / "information"), re.MULTILINE)
        detail = f"driver {match[1]}" if match else "driver"
        found.append(Accelerator(name=model[1] if model else gpu.name, told_by="the NVIDIA driver", detail=detail))
    return found


def _npu() -> list[Accelerator]:
    if shutil.which("npu-smi") is None:
        return []
    code, out, err = run_tool("npu-smi", "info")
    if code != 0:
        reason = (err or out).strip().splitlines() or [f"exit code {code}"]
        return [Accelerator(name="Ascend NPU", told_by="npu-smi", detail="not usable", problem=reason[0])]
    found = [match for line in out.splitlines() if (match := _NPU.match(line))]
    return [
        Accelerator(
            name=f"Ascend {match[2]}",
            told_by="npu-smi",
            detail=f"card {match[1]}",
            problem=None if match[3].upper() == "OK" else f"its health is {match[3]}",
        )
        for match in found
    ]


def _pci(root: Path) -> Iterator[tuple[str, Accelerator]]:
    """Graphics and accelerators on the bus, of makers whose devices compute."""
    folder = root / "sys/bus/pci/devices"
    for device in sorted(folder.iterdir()) if folder.is_dir() else ():
        kind, vendor = _text(device / "class")[:6], _VENDORS.get(_text(device / "vendor"))
        if vendor is not None and (kind in _DISPLAY_CLASSES or kind == _ACCELERATOR_CLASS):
            driver = device / "driver"
            detail = f"driver {driver.resolve().name}" if driver.exists() else "no driver"
            name = f"{vendor} {'accelerator' if kind == _ACCELERATOR_CLASS else 'graphics'} {device.name}"
            problem = None if driver.exists() else "the system has no driver loaded for it"
            yield vendor, Accelerator(name=name, told_by="PCI bus", detail=detail, problem=problem)


def run_tool(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a vendor's tool; a code of -1 with the reason where it does not answer."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=_TOOL_S
        )
    except subprocess.TimeoutExpired:
        return -1, "", f"{words[0]} did not answer within {_TOOL_S:g} s"
    except OSError as error:
        return -1, "", f"{words[0]}: {error.strerror or error}"
    return done.returncode, done.stdout, done.stderr


def _text(path: Path) -> str:
    """A small file of the system's; empty where it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
