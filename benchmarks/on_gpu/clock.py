"""Timing on a device: events on CUDA, the host's clock on a processor; contestants interleaved, median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

Step = Callable[[int], Any]  # runs one batch; gets its number, so that it can rotate among inputs


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call, of each turn."""

    seconds: tuple[float, ...]
    calls: int  # in a turn

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(most − least) ÷ median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def rate(self, images: int) -> float:
        """Images a second."""
        return images / self.median

    def told(self, images: int) -> dict[str, Any]:
        """For the record."""
        return {"images_per_s": self.rate(images), "ms": self.median * 1e3, "spread": self.spread, **asdict(self)}


class Device:
    """Where the work is done, and its clock."""

    def __init__(self, name: str):
        self.name = name
        self.cuda = name.startswith("cuda")

    def synchronize(self) -> None:
        """Wait for all that was asked of it."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """How long the device is at it, from its first operation to its last, by its own events."""
        if not self.cuda:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def interleaved(self, steps: dict[str, Step], *, turns: int, seconds: float) -> dict[str, Timing]:
        """Time each step in turns of about `seconds`, one contestant after the other, `turns` times round.

        Every contestant is warmed up first: what is compiled, chosen or captured at the first calls is not in the figures.
        """
        calls = {}
        for name, step in steps.items():
            self.seconds(lambda step=step: _repeat(step, 3))
            once = self.seconds(lambda step=step: _repeat(step, 5)) / 5
            calls[name] = max(1, min(10_000, round(seconds / max(once, 1e-7))))
        found: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(turns):
            order = list(steps) if turn % 2 == 0 else list(reversed(steps))  # a drift of the clock falls on all alike
            for name in order:
                took = self.seconds(lambda name=name: _repeat(steps[name], calls[name]))
                found[name].append(took / calls[name])
        return {name: Timing(seconds=tuple(took), calls=calls[name]) for name, took in found.items()}


def _repeat(step: Step, calls: int) -> None:
    for number in range(calls):
        step(number)
