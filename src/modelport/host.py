"""The machine that we are on: its processor's identity, and all that a figure measured here depends on."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from . import __version__
from .offline import HostFingerprint
from .results import Environment

_PACKAGES = ("numpy", "pillow", "onnx", "openvino", "onnxruntime", "torch", "timm", "simplejpeg")


# Flags of instruction sets that compilers choose code by; /proc/cpuinfo lists many more that do not matter to them.
_INSTRUCTION_SETS = re.compile(
    r"^(sse|ssse|avx|amx|fma|f16c|bmi|aes|vaes|gfni|sha|popcnt|abm|movbe|vpclmul|adx|asimd|neon|sve|sme|bf16|i8mm|fphp)"
)


@cache
def fingerprint() -> HostFingerprint:
    """Machine type, CPU name and instruction-set features of this processor."""
    return HostFingerprint(
        machine=platform.machine(), cpu=_cpuinfo().get("model name", platform.processor()), features=_features()
    )


def _features() -> tuple[str, ...]:
    """From the kernel where it says (it knows flags that no microarchitecture list has), else from archspec."""
    from archspec.cpu import host

    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or " ".join(host().features)).split()
    return tuple(sorted({flag for flag in flags if _INSTRUCTION_SETS.match(flag)}))


@cache
def _cpuinfo() -> dict[str, str]:
    """Linux's description of the first core; empty elsewhere."""
    info: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break
                info[key.strip()] = value.strip()
    except OSError:
        pass
    return info


@cache
def environment() -> Environment:
    """Everything about this machine and its software that a result depends on. Packages are looked up, not imported."""
    import psutil
    from archspec.cpu import host

    return Environment(
        modelport=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=fingerprint().cpu,
        cpu_family=host().name,
        cpu_features=fingerprint().features,
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        packages={name: found for name in _PACKAGES if (found := _version(name))},
    )


def usable_cores() -> int:
    """Logical cores that this process may use."""
    return len(core_numbers())


def core_numbers() -> list[int]:
    """Numbers of the logical cores that this process may use, in order."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))


@contextmanager
def pinned(cores: tuple[int, ...]) -> Iterator[None]:
    """Keep the calling thread to these cores meanwhile; nothing where none are named, or the system cannot."""
    if not cores or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)  # of 0: of the calling thread
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
