"""What is wrong with a machine for this work, and what mends each: rules over what `doctor` found, nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterator

from ..results import (
    Accelerator,
    Disk,
    EngineCheck,
    Hygiene,
    Memory,
    OptionalPackage,
    Problem,
    Processor,
    Telemetry,
)

GIB = 1 << 30
_LEAST_MEMORY, _LEAST_SPACE = 2 * GIB, 2 * GIB
_SLOW_WRITE = 50e6  # bytes a second; a hard disk does twice that
_SLOW_COMMIT_MS = 50.0
_FAST_GOVERNORS = {"performance", "schedutil"}
_GRAVITY = {"error": 0, "warning": 1, "note": 2}
_FAKE = "null"


def gravest_first(problems: Iterator[Problem]) -> tuple[Problem, ...]:
    """The problems in order of their gravity, otherwise as they come."""
    return tuple(sorted(problems, key=lambda problem: _GRAVITY[problem.level]))


def of_engines(checks: tuple[EngineCheck, ...]) -> Iterator[Problem]:
    """Engines that are missing or do not run, and whether any real one does."""
    ready = {check.engine for check in checks if check.executed}
    if not ready - {_FAKE}:
        yield Problem(
            level="error",
            what="no engine runs here, so no model can be compiled or run",
            mend="pip install 'modelport[openvino]', or modelport[onnxruntime]",
        )
    for engine in dict.fromkeys(check.engine for check in checks):
        own = [check for check in checks if check.engine == engine]
        missing = next((check for check in own if check.version is None), None)
        if missing is not None:
            reason, _, mend = (missing.problem or "").rpartition(": ")
            yield Problem(level="note", what=reason or engine, mend=mend)
            continue
        for check in own:
            if check.problem is not None and engine in ready:
                mend = f"compile for {engine} with --precision {next(c.precision for c in own if c.executed)}"
                yield Problem(level="note", what=f"{engine} {check.precision}: {check.problem}", mend=mend)
            elif check.problem is not None:
                again = "install it anew: pip install --force-reinstall " + engine
                what = f"{engine} is installed and does not run at {check.precision}: {check.problem}"
                yield Problem(level="error", what=what, mend=again)


def of_processor(found: Processor) -> Iterator[Problem]:
    """Limits that are easily overlooked, and a clock that saves power."""
    if found.quota_cores is not None and found.quota_cores < found.usable_cores:
        whole = max(1, int(found.quota_cores))
        yield Problem(
            level="warning",
            what=f"the control group gives {found.quota_cores:g} cores' worth of time while {found.usable_cores} cores can be "
            "used: as many threads are made, and stopped in the middle of a batch",
            mend=f"pass --threads {whole}, or start the container with --cpuset-cpus instead of --cpus",
        )
    if found.usable_cores < found.logical_cores:
        yield Problem(
            level="note",
            what=f"this process may use {found.usable_cores} of {found.logical_cores} cores",
            mend=f"taskset -c 0-{found.logical_cores - 1} modelport …, if that is not on purpose",
        )
    if found.governor is not None and not set(found.governor.split(", ")) <= _FAST_GOVERNORS:
        yield Problem(
            level="warning",
            what=f"the clock's governor is {found.governor}: it starts slow, and figures depend on what ran before",
            mend="sudo cpupower frequency-set -g performance",
        )


def of_memory(found: Memory) -> Iterator[Problem]:
    """Too little of it left."""
    left = min(found.available, found.limit or found.available)
    if left < _LEAST_MEMORY:
        yield Problem(
            level="warning",
            what=f"{left / GIB:.1f} GiB of memory are left; compiling and quantising take about 2",
            mend="end other programs (ps aux --sort=-rss | head), or give the container more",
        )


def of_disk(found: Disk) -> Iterator[Problem]:
    """Full, or slow."""
    elsewhere = "export TMPDIR=… to a directory on another disk"
    if found.free < _LEAST_SPACE:
        yield Problem(
            level="warning",
            what=f"{found.free / GIB:.1f} GiB are free in {found.path}",
            mend=f"df -h {found.path}; or {elsewhere}",
        )
    if found.written_a_second < _SLOW_WRITE:
        yield Problem(
            level="warning",
            what=f"{found.path} writes {found.written_a_second / 1e6:,.0f} MB/s",
            mend=f"{elsewhere}, and results with -o likewise",
        )
    if found.commit_ms > _SLOW_COMMIT_MS:
        yield Problem(
            level="warning",
            what=f"making four kilobytes durable takes {found.commit_ms:.0f} ms in {found.path}: runs that commit wait for it",
            mend="choose an output on a local disk, not on a network's",
        )


def of_machine(hygiene: Hygiene) -> Iterator[Problem]:
    """Others at work."""
    if hygiene.busy:
        yield Problem(
            level="warning",
            what=f"the machine is busy: {hygiene.text}; whatever is measured now is doubtful",
            mend="wait, or look who it is: ps -eo pid,pcpu,comm --sort=-pcpu | head",
        )


def of_accelerators(found: tuple[Accelerator, ...]) -> Iterator[Problem]:
    """Devices that are there and cannot be used."""
    for device in found:
        if device.problem is not None:
            tool = {"nvidia-smi": "nvidia-smi -q", "npu-smi": "npu-smi info -t health -i 0"}.get(device.told_by)
            yield Problem(
                level="warning" if tool else "note",
                what=f"{device.name}: {device.problem}",
                mend=f"{tool}, and see the driver's log: dmesg | tail" if tool else "install its maker's driver",
            )


def of_telemetry(found: tuple[Telemetry, ...]) -> Iterator[Problem]:
    """What would report in other programs; in modelport nothing does."""
    for product in found:
        if product.installed and product.elsewhere == "on":
            yield Problem(
                level="note",
                what=f"{product.product} reports its use in this user's other programs (not in modelport)",
                mend=product.switch_off,
            )


def of_packages(found: tuple[OptionalPackage, ...]) -> Iterator[Problem]:
    """Packages that are not there, one note for each extra."""
    absent: dict[str, list[OptionalPackage]] = {}
    for package in found:
        if package.version is None:
            absent.setdefault(package.extra, []).append(package)
    for extra, packages in absent.items():
        names = ", ".join(package.name for package in packages)
        yield Problem(
            level="note",
            what=f"{names} not installed: {packages[0].serves}",
            mend=f"pip install 'modelport[{extra}]'",
        )
