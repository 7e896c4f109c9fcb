"""What the card can do at most, measured: copying in its memory, copying to and from it, and matrix products."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from .clock import Device


def measure(device: Device, dtype: torch.dtype, *, quick: bool) -> dict[str, Any]:
    """Bytes and operations a second, on random numbers."""
    found = _copying(device, (1 << 22) if quick else (1 << 31))
    side = 256 if quick else 8192
    left, right = (torch.randn(side, side, device=device.name).to(dtype) for _ in range(2))
    found["matmul_operations_per_s"] = 2 * side**3 / _best(device, lambda: left @ right)
    return found


def _copying(device: Device, size: int) -> dict[str, Any]:
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device.name)
    target = torch.empty_like(source)
    found = {"copy_bytes_per_s": 2 * size / _best(device, lambda: target.copy_(source))}
    if device.cuda:
        host = torch.empty(size // 8, dtype=torch.uint8, pin_memory=True)
        part = source[: size // 8]
        found["host_to_device_bytes_per_s"] = len(host) / _best(device, lambda: part.copy_(host, non_blocking=True))
        found["device_to_host_bytes_per_s"] = len(host) / _best(device, lambda: host.copy_(part, non_blocking=True))
    return found


def _best(device: Device, work: Any) -> float:
    """Median seconds of ten, after three that do not count."""
    for _ in range(3):
        work()
    return median(device.seconds(work) for _ in range(10))


def describe(device: Device) -> dict[str, Any]:
    """The card, its driver and the software, as far as a figure depends on them."""
    import os
    import platform
    import subprocess

    told: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if not device.cuda:
        return told | {"device": "processor"}
    card = torch.cuda.get_device_properties(0)
    told |= {
        "device": card.name,
        "capability": f"{card.major}.{card.minor}",
        "memory_bytes": card.total_memory,
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    fields = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,utilization.gpu"
    try:
        line = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
        values = subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout.strip().split(", ")
        told["nvidia_smi"] = dict(zip(fields.split(","), values, strict=False))
    except (OSError, subprocess.SubprocessError) as error:
        told["nvidia_smi"] = f"not read: {error}"
    return told
