"""Is the machine ours alone? What other processes used before and during a measurement, by differences of CPU times.

Ours is this process and all its descendants, whatever session they are in. Everything else is other, also a process that
we started and that has been orphaned since. CPU time is read of the cores that this process may use only, so that a run
under `taskset` is judged by its own cores. There is no thread: the times are read before, at the start and at the end.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

import psutil

from .host import usable_cores
from .pace import measure_pace
from .results import Hygiene

BEFORE_S = 0.25  # how long the machine is looked at before a measurement
SHORTEST_S = 0.5  # the kernel counts CPU time in ticks of 10 ms: over less than this they would be most of the figure
BUSY_CORES = 0.15  # a desktop's background stays below
BUSY_SHARE = 0.02  # of the cores: on a large machine the two ways of counting (by core, by process) differ by about 1 %
BUSY_DEVICE = 5  # per cent
_BUSY_TIMES = ("user", "nice", "system", "irq", "softirq")  # guests are in `user`; stolen time is no process's
_TOOL_S = 3.0
log = logging.getLogger("modelport")


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    name: str
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Sample:
    """CPU times at one moment, seconds since the machine started. `others` is keyed by pid and time of creation."""

    at: float
    busy: float
    ours: float
    others: dict[tuple[int, float], _Process]


class Watch:
    """A measurement being watched; `hygiene` is there once it is over."""

    def __init__(self) -> None:
        self._pace = measure_pace()  # first, so that its threads have gone to sleep by the start
        first = _sample()
        sleep(BEFORE_S)
        self._start = _sample()
        self._before = _others(first, self._start)
        self._devices = _busy_devices(utilisation=True)
        self._clock = _clock_mhz()
        self._start = _sample()  # without the tools' own time
        self.hygiene: Hygiene | None = None

    def finish(self) -> None:
        """The measurement is over."""
        clock = _clock_mhz()  # first, while the cores still run as they did
        end = _sample()
        during = _others(self._start, end) if end.at - self._start.at >= SHORTEST_S else None
        # Utilisation is ours by now; another's process is another's.
        devices = list(dict.fromkeys(self._devices + _busy_devices(utilisation=False)))
        reasons = []
        for used, when in ((self._before, "just before"), (during, "meanwhile")):
            if used is not None and used[0] > busy_limit():
                reasons.append(f"other processes used {used[0]:.2f} cores {when}{_by(used[1])}")
        self.hygiene = Hygiene(
            busy_before=self._before[0],
            busy_during=during[0] if during else None,
            device_busy="; ".join(devices) or None,
            clock_mhz=(self._clock, clock) if self._clock and clock else None,
            pace_s=(self._pace, measure_pace()),
            reasons=(*reasons, *devices),
        )


@contextmanager
def watch() -> Iterator[Watch]:
    """Watch the machine around a measurement: look at it for a third of a second, then yield."""
    watched = Watch()
    yield watched
    watched.finish()


def busy_limit() -> float:
    """Cores that others may use before a measurement is called disturbed."""
    return max(BUSY_CORES, BUSY_SHARE * usable_cores())


def warn_if_busy(what: str, hygiene: Hygiene | None) -> None:
    """Say on the log that figures are doubtful, and why."""
    if hygiene is not None and hygiene.busy:
        log.warning("%s: the machine was busy: %s; measure again when it is idle", what, hygiene.text)


def _sample() -> _Sample:
    at, times = monotonic(), psutil.cpu_times(percpu=True)
    if sys.platform == "linux":
        times = [times[core] for core in os.sched_getaffinity(0) if core < len(times)] or times
    busy = sum(getattr(core, name, 0.0) for core in times for name in _BUSY_TIMES)
    tree, ours, others = _tree(), 0.0, {}
    for process in psutil.process_iter(["pid", "name", "create_time", "cpu_times"]):
        found = process.info
        if (cpu := found["cpu_times"]) is None:  # not ours to look at
            continue
        own = cpu.user + cpu.system
        if found["pid"] in tree:  # with the children that have ended: they were ours as well
            ours += own + getattr(cpu, "children_user", 0.0) + getattr(cpu, "children_system", 0.0)
        else:
            name = found["name"] or "?"
            others[found["pid"], found["create_time"]] = _Process(found["pid"], name, own)
    return _Sample(at, busy, ours, others)


def _clock_mhz() -> float | None:
    """The cores' mean clock now. A virtual machine may tell its nominal one; some systems tell none."""
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError):  # psutil lacks it where the system does
        return None
    return found.current or None if found else None


def _tree() -> set[int]:
    me = psutil.Process()
    return {me.pid, *(child.pid for child in me.children(recursive=True))}


def _others(start: _Sample, end: _Sample) -> tuple[float, _Process | None]:
    """Cores used by others between two samples, and the process that used most with its share of a core."""
    span = end.at - start.at
    cores = max(0.0, (end.busy - start.busy) - (end.ours - start.ours)) / span
    top = None
    for key, process in end.others.items():
        used = process.cpu_s - (start.others[key].cpu_s if key in start.others else 0.0)
        if used > 0 and (top is None or used / span > top.cpu_s):
            top = _Process(process.pid, process.name, used / span)
    return cores, top


def _by(top: _Process | None) -> str:
    return f" (most by {top.name}, pid {top.pid}: {top.cpu_s:.2f})" if top else ""


# -- devices


def _busy_devices(*, utilisation: bool) -> list[str]:
    """Busy devices in words: above the limit (where asked), or with a process of others on them."""
    return _nvidia(utilisation) + _npu(utilisation)


def _nvidia(utilisation: bool) -> list[str]:
    found = []
    if utilisation:
        for index, percent in _cells(_output("nvidia-smi", "--query-gpu=index,utilization.gpu", *_CSV), 2):
            if percent.isdigit() and int(percent) > BUSY_DEVICE:
                found.append(f"NVIDIA GPU {index} was {percent} % busy")
    apps = _cells(_output("nvidia-smi", "--query-compute-apps=pid,process_name", *_CSV), 2)
    tree = _tree() if apps else set()
    return found + [
        f"{name} (pid {pid}) uses an NVIDIA GPU" for pid, name in apps if pid.isdigit() and int(pid) not in {0, *tree}
    ]


_CSV = "--format=csv,noheader,nounits"


def _cells(text: str, count: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split(",", count - 1)] for line in text.splitlines()]
    return [row for row in rows if len(row) == count]


# `| 0  0 | 0000:07:00.0 | 37  2621 / 8192 |`: chip, bus, AICore per cent; `| 0  0 | 4242 | python3 | 95 |`: a process.
_CHIP = re.compile(r"^\|\s*(\d+)[^|]*\|\s*[\dA-Fa-f]{4}:[\dA-Fa-f]{2}:[\dA-Fa-f]{2}\.\d\s*\|\s*(\d+)")
_CARD = re.compile(r"^\|\s*(\d+)\s+\S+[^|]*\|\s*(?:OK|Warning|Alarm|Critical|UNKNOWN)\b", re.IGNORECASE)
_NPU_PROCESS = re.compile(r"^\|\s*(\d+)\s+\d+\s*\|\s*(\d+)\s*\|\s*([^|]*?)\s*\|\s*\d+")


def _npu(utilisation: bool) -> list[str]:
    found, card, tree = [], "?", _tree()
    for line in _output("npu-smi", "info").splitlines():
        if match := _CARD.match(line):
            card = match[1]
        elif match := _CHIP.match(line):
            if utilisation and int(match[2]) > BUSY_DEVICE:
                found.append(f"NPU {card} chip {match[1]} was {match[2]} % busy")
        elif (match := _NPU_PROCESS.match(line)) and int(match[2]) not in tree:
            found.append(f"{match[3] or '?'} (pid {match[2]}) uses NPU {match[1]}")
    return found


_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def _output(tool: str, *words: str) -> str:
    """What a vendor's tool prints; nothing where it is absent, fails, does not answer or prints something else than text.

    Bytes at random hold lines such as `1,_` soon enough, which would read as a process on the card.
    """
    if (path := shutil.which(tool)) is None:
        return ""
    try:
        done = subprocess.run(
            [path, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TOOL_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s: %s", path, error)
        return ""
    if done.returncode or _NO_TEXT.search(done.stdout):
        log.debug("%s: exit status %d, output of no use: %.80r", path, done.returncode, done.stdout)
        return ""
    return done.stdout
