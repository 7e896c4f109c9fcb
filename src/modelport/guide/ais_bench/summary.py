"""Figures of an ais_bench run: the lines it prints and its `_summary.json`.

Latencies are in milliseconds. Compute is the engine's call; an accelerator's copies are inside it. H2D is the copy of the
files' data into the batch that the engine reads, measured. D2H is 0: engines answer in host memory, nothing is left to copy.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ... import files
from ...errors import OutputError
from ...schema import JSON_ERRORS

_PERCENTILE = "percentile(99%)"
_WIDTH = 54
_TITLE = "-" * 17 + "Performance Summary" + "-" * 18


@dataclass(slots=True)
class DeviceTimes:
    """What one device did.

    Attributes:
        device: its id.
        compute, h2d, d2h: latencies; of compute one for each repetition, of the others one for each batch.
        images: in each batch, padding not counted.
        started, ended: seconds since the epoch.
    """

    device: int
    compute: list[float] = field(default_factory=list)
    h2d: list[float] = field(default_factory=list)
    d2h: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0

    @property
    def throughput(self) -> float:
        """Images a second while computing; 0 for a device that had nothing to do."""
        return 1000 * float(np.mean(self.images)) / float(np.mean(self.compute)) if self.compute else 0.0

    def lines(self, *, everything: bool) -> list[str]:
        """The summary as ais_bench prints it; with `everything`, the copies as well."""
        rows = [("NPU_compute_time", self.compute)]
        if everything:
            rows = [("H2D_latency", self.h2d), *rows, ("D2H_latency", self.d2h)]
        lines = [f"[INFO] {_TITLE}"]
        for name, values in rows:
            figures = _spread(values)
            del figures["count"]
            lines.append(f"[INFO] {name} (ms): " + ", ".join(f"{key} = {value}" for key, value in figures.items()))
        mean = f"NPU_compute_time.mean({float(np.mean(self.compute))})"
        images = f"batchsize.mean({_plain(float(np.mean(self.images)))})"
        return [*lines, f"[INFO] throughput 1000*{images}/{mean}: {self.throughput}", f"[INFO] {'-' * _WIDTH}"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AisResult:
    """A finished run.

    Attributes:
        devices: figures of each device.
        files: `filesinfo` of the summary: input and output files by the number of the file.
        output: directory of the outputs, or None.
        summary: the summary's file, or None.
    """

    devices: tuple[DeviceTimes, ...]
    files: dict[str, dict[str, list[str]]]
    output: Path | None
    summary: Path | None

    @property
    def throughput(self) -> float:
        """Images a second while computing, all devices together: the sum of theirs, as ais_bench has it."""
        return sum(device.throughput for device in self.devices)

    def lines(self, *, everything: bool = False) -> list[str]:
        """What ais_bench prints at the end."""
        lines = [line for device in self.devices if device.compute for line in device.lines(everything=everything)]
        if len(self.devices) > 1:
            for number, device in enumerate(self.devices):
                lines.append(
                    f"[INFO] i:{number} device_{device.device} throughput:{device.throughput} "
                    f"start_time:{device.started} end_time:{device.ended}"
                )
            lines.append(f"[INFO] summary throughput:{self.throughput}")
        return lines

    def document(self, arguments: list[str]) -> dict[str, object]:
        """The summary file's content. Several devices' latencies are put together; theirs alone are in `devices`."""
        compute = [value for device in self.devices for value in device.compute]
        document: dict[str, object] = {
            "filesinfo": self.files,
            "args": arguments,
            "NPU_compute_time": _spread(compute),
            "H2D_latency": _spread([value for device in self.devices for value in device.h2d]),
            "D2H_latency": _spread([value for device in self.devices for value in device.d2h]),
            "npu_compute_time_list": compute,
            "throughput": self.throughput,
            "pid": os.getpid(),
        }
        if len(self.devices) > 1:
            document["devices"] = [
                {"device": device.device, "throughput": device.throughput, "count": len(device.compute)}
                for device in self.devices
            ]
        return document


def write_summary(result: AisResult, arguments: list[str]) -> None:
    """Write the summary file, where the run has one."""
    if result.summary is not None:
        files.write_text(result.summary, json.dumps(result.document(arguments)) + "\n")


def refuse_foreign_summary(path: Path) -> None:
    """Raise OutputError if there is something else than a summary of an earlier run."""
    if not os.path.lexists(path):
        return
    try:
        ours = "npu_compute_time_list" in json.loads(path.read_bytes())
    except (*JSON_ERRORS, OSError, TypeError):
        ours = False
    if not ours:
        raise OutputError(f"{path}: exists and is no summary of ais_bench: not replaced, choose another output")


def _spread(values: list[float]) -> dict[str, float]:
    array = np.asarray(values)
    return {
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        _PERCENTILE: float(np.percentile(array, 99)),
        "count": len(values),
    }


def _plain(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)
