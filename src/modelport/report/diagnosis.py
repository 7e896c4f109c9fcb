"""What `doctor` found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..printable import printable
from ..results import Diagnosis, EngineCheck
from .rows import Table

if TYPE_CHECKING:
    from rich.console import Console

_GIB = 1 << 30
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def diagnosis_tables(found: Diagnosis) -> list[Table]:
    """Machine, engines, devices and telemetry. The problems are for `show_problems`."""
    return [
        _machine(found),
        _engines(found),
        _devices(found),
        _telemetry(found),
    ]


def _machine(found: Diagnosis) -> Table:
    env, cpu, memory, disk = found.environment, found.processor, found.memory, found.disk
    cores = f"{cpu.usable_cores} of {cpu.logical_cores} usable"
    if cpu.physical_cores:
        cores += f", {cpu.physical_cores} physical"
    cores += f", limited to {cpu.quota_cores:g} cores' time" if cpu.quota_cores is not None else ", no time limit"
    has = ", ".join(kind for kind, there in cpu.arithmetic.items() if there) or "none of these"
    lacks = ", ".join(kind for kind, there in cpu.arithmetic.items() if not there)
    clock = [f"{cpu.mhz:,.0f} MHz" if cpu.mhz else "", f"at most {cpu.most_mhz:,.0f} MHz" if cpu.most_mhz else ""]
    clock.append(f"governor {cpu.governor}" if cpu.governor else "governor not told")
    left = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB left"
    left += f", limited to {memory.limit / _GIB:.1f} GiB" if memory.limit is not None else ""
    read = f"reads {disk.read_a_second / 1e6:,.0f} MB/s" + ("" if disk.forgotten else " (from memory)")
    others = f"{found.hygiene.busy_before:.2f} cores used by others"
    devices = "" if found.hygiene.device_busy is None else f"; {found.hygiene.device_busy}"
    where = [
        *(["virtual machine"] if cpu.virtual else []),
        *([f"container ({cpu.container})"] if cpu.container else []),
    ]
    rows = [
        ("processor", f"{env.cpu} ({env.cpu_family})"),
        ("arithmetic", f"{has}" + (f"; without {lacks}" if lacks else "")),
        ("cores", cores),
        ("clock", ", ".join(filter(None, clock))),
        ("memory", left),
        ("disk", f"{disk.path}{f' ({disk.filesystem})' if disk.filesystem else ''}, {disk.free / _GIB:.1f} GiB free"),
        ("", f"writes {disk.written_a_second / 1e6:,.0f} MB/s, {read}, 4 kB durable in {disk.commit_ms:.1f} ms"),
        ("busy", others + devices),
        ("system", f"{env.system}, {env.machine}{''.join(f', {name}' for name in where)}"),
        ("software", f"modelport {env.modelport}, Python {env.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in _versions(found).items())),
    ]
    return Table("Machine", ("", ""), rows)


def _versions(found: Diagnosis) -> dict[str, str]:
    return found.environment.packages | {p.name: p.version for p in found.packages if p.version is not None}


def _engines(found: Diagnosis) -> Table:
    rows = [
        (check.engine, check.version or "—", check.precision, check.executed or "—", _state(check))
        for check in found.engines
    ]
    return Table("Engines", ("engine", "version", "asked for", "really executes", "state"), rows)


def _state(check: EngineCheck) -> str:
    if check.version is None:
        return "not there, see below"
    return check.problem or "ready"


def _devices(found: Diagnosis) -> Table:
    told: dict[str, list[str]] = {}
    for device in found.accelerators:
        more = ", ".join(filter(None, (device.detail, device.problem)))
        told.setdefault(device.told_by, []).append(f"{device.name} ({more})" if more else device.name)
    rows = [(teller, "; ".join(devices)) for teller, devices in told.items()]
    return Table("Devices", ("told by", "devices"), rows or [("—", "none besides the processor")])


def _telemetry(found: Diagnosis) -> Table:
    rows = [
        (product.product, "off", product.elsewhere if product.installed else "not installed")
        for product in found.telemetry
    ]
    return Table("Telemetry", ("of", "in modelport", "in this user's other programs"), rows)


def show_problems(console: Console, found: Diagnosis) -> None:
    """Each problem in a line, and below it what mends it, in a line of its own that can be copied whole."""
    from rich.text import Text

    console.print(Text("Problems, and what mends them" if found.problems else "No problems", style="bold"))
    for problem in found.problems:
        level = Text(f"{problem.level:<9}", style=_STYLES[problem.level])
        console.print(level + Text(printable(problem.what)), soft_wrap=True)
        console.print(Text(f"{'':9}→ {printable(problem.mend)}", style="cyan"), soft_wrap=True)
