"""Timing on a device: events on CUDA, the host's clock on a processor; contestants interleaved, median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Contestant:
    """Runs one batch when it is called; `stream` is where its work goes, where that is not the current one."""

    run: Callable[[], Any]
    stream: Any = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call, in each turn."""

    seconds: tuple[float, ...]
    calls: int  # in a turn

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def told(self, images: int) -> dict[str, Any]:
        """For the record; `spread` is (most - least) / median."""
        rates = [images / second for second in self.seconds]
        return {
            "images_per_s": images / self.median,
            "ms": self.median * 1e3,
            "least": min(rates),
            "most": max(rates),
            "spread": (max(self.seconds) - min(self.seconds)) / self.median,
            "turns_s": self.seconds,
            "calls": self.calls,
        }


class Device:
    """Where the work is done, and its clock."""

    def __init__(self, name: str):
        self.name = name
        self.cuda = name.startswith("cuda")

    def synchronize(self) -> None:
        """Wait for all that was asked of it."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], stream: Any = None) -> float:
        """How long the device is at it, from its first operation to its last, by its own events on the stream."""
        if not self.cuda:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        stream = stream or torch.cuda.current_stream()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def interleaved(self, contestants: dict[str, Contestant], *, turns: int, seconds: float) -> dict[str, Timing]:
        """Time each contestant in turns of about `seconds`, one after the other, `turns` times round.

        Every one is warmed up first: what is compiled, chosen or recorded at the first calls is not in the figures.
        """
        calls = {}
        for name, one in contestants.items():
            self._turn(one, 3)
            once = self._turn(one, 5) / 5
            calls[name] = max(1, min(10_000, round(seconds / max(once, 1e-7))))
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(turns):
            order = list(contestants) if turn % 2 == 0 else list(reversed(contestants))  # a drift falls on all alike
            for name in order:
                found[name].append(self._turn(contestants[name], calls[name]) / calls[name])
        return {name: Timing(seconds=tuple(took), calls=calls[name]) for name, took in found.items()}

    def _turn(self, one: Contestant, calls: int) -> float:
        def work() -> None:
            for _ in range(calls):
                one.run()

        return self.seconds(work, one.stream)
