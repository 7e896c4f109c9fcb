"""The benchmark tool's two performance files, written and read back: five lines of a real-data run, one of pure inference.

Numbers have six significant digits, as a C++ stream prints them; parsers in use count on order and punctuation.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import FormatError
from ..files import write_text
from ..results import InferResult
from ..schema import read_text


@dataclass(frozen=True, kw_only=True, slots=True)
class RealDataPerformance:
    """`perf_vision_batchsize_{bs}_device_{id}.txt`. Rates in items a second, latencies in milliseconds.

    An item is an image, in post a batch. `e2e_latency` is the whole run's wall time. `infer_latency` is busy time per image;
    the other module latencies are 1000 ÷ their rate. `interface_rate` is device execution only, the figure that is quoted.
    """

    e2e_rate: float
    e2e_latency: float
    read_rate: float
    read_latency: float
    preprocess_rate: float
    preprocess_latency: float
    infer_rate: float
    interface_rate: float
    infer_latency: float
    post_rate: float
    post_latency: float

    @classmethod
    def of(cls, result: InferResult) -> Self:
        """The figures of a pipeline run. A stage's rate is its items ÷ the time until it finished the last one."""
        stage = {stage.name: stage for stage in result.stages}
        read, decode, infer, post = (stage[name] for name in ("read", "decode", "infer", "post"))
        rates = {
            name: item.items / item.finished_s
            for name, item in (("read", read), ("preprocess", decode), ("post", post))
        }
        return cls(
            e2e_rate=result.e2e.throughput,
            e2e_latency=result.e2e.wall_s * 1000,
            infer_rate=infer.images / infer.finished_s,
            interface_rate=result.interface.throughput,
            infer_latency=infer.busy_s * 1000 / infer.images,
            **{f"{name}_rate": rate for name, rate in rates.items()},
            **{f"{name}_latency": 1000 / rate for name, rate in rates.items()},
        )

    def text(self) -> str:
        """The five lines."""
        n = [f"{value:g}" for value in astuple(self)]
        return (
            f"[e2e] throughputRate: {n[0]}, latency: {n[1]}\n"
            f"[data read] throughputRate: {n[2]}, moduleLatency: {n[3]}\n"
            f"[preprocess] throughputRate: {n[4]}, moduleLatency: {n[5]}\n"
            f"[infer] throughputRate: {n[6]}, Interface throughputRate: {n[7]}, moduleLatency: {n[8]}\n"
            f"[post] throughputRate: {n[9]}, moduleLatency: {n[10]}\n"
        )

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file back.

        Raises:
            FormatError: a line is missing or malformed; the message has its number.
        """
        number = r"([-+0-9.eE]+)"
        patterns = (
            rf"\[e2e\] throughputRate: {number}, latency: {number}",
            rf"\[data read\] throughputRate: {number}, moduleLatency: {number}",
            rf"\[preprocess\] throughputRate: {number}, moduleLatency: {number}",
            rf"\[infer\] throughputRate: {number}, Interface throughputRate: {number}, moduleLatency: {number}",
            rf"\[post\] throughputRate: {number}, moduleLatency: {number}",
        )
        lines = read_text(Path(path)).splitlines()
        values = [value for index, pattern in enumerate(patterns) for value in _numbers(path, lines, index, pattern)]
        return cls(**{field.name: value for field, value in zip(fields(cls), values, strict=True)})


@dataclass(frozen=True, kw_only=True, slots=True)
class PureInference:
    """`PureInfer_perf_of_{om stem}_in_device_{id}.txt`. Samples a second (mean of the rounds' rates), milliseconds per sample."""

    rate: float
    latency: float

    @classmethod
    def of(cls, latencies_s: tuple[float, ...], batch_size: int) -> Self:
        """From the rounds' latencies: the mean of their rates, and the mean of their times per sample."""
        seconds = np.asarray(latencies_s)
        return cls(rate=float((batch_size / seconds).mean()), latency=float(seconds.mean() * 1000 / batch_size))

    def text(self) -> str:
        """The one line."""
        return f"ave_throughputRate = {self.rate:g}samples/s, ave_latency = {self.latency:g}ms\n"

    def summary(self, path: Path | str) -> str:
        """The console's closing lines."""
        title = "PureInfer Performance Summary".center(64, "-")
        return (
            f"[INFO] PureInfer result saved in {path}\n{title}\n"
            f"[INFO] ave_throughputRate: {self.rate:g}samples/s, ave_latency: {self.latency:g}ms\n{'-' * 64}"
        )

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file back.

        Raises:
            FormatError: it is not that line.
        """
        pattern = r"ave_throughputRate = ([-+0-9.eE]+)samples/s, ave_latency = ([-+0-9.eE]+)ms"
        rate, latency = _numbers(path, read_text(Path(path)).splitlines(), 0, pattern)
        return cls(rate=rate, latency=latency)


def real_data_file(batch_size: int, device: int) -> str:
    """Name of a real-data run's file; parsers take the batch size from its fourth part."""
    return f"perf_vision_batchsize_{batch_size}_device_{device}.txt"


def pure_file(model: Path, device: int) -> str:
    """Name of a pure-inference file."""
    return f"PureInfer_perf_of_{model.stem}_in_device_{device}.txt"


def write_performance(path: Path, performance: RealDataPerformance | PureInference) -> None:
    """Write either file."""
    write_text(path, performance.text())


def _numbers(path: Path | str, lines: list[str], index: int, pattern: str) -> list[float]:
    line = lines[index].rstrip() if index < len(lines) else ""
    match = re.fullmatch(pattern, line)
    try:
        return [float(value) for value in match.groups()] if match else _malformed(path, index, pattern, line)
    except ValueError:
        return _malformed(path, index, pattern, line)


def _malformed(path: Path | str, index: int, pattern: str, line: str) -> list[float]:
    shape = pattern.replace("\\", "").replace("([-+0-9.eE]+)", "N")
    raise FormatError(f"{path}:{index + 1}: expected `{shape}`, got {line[:80]!r}")
