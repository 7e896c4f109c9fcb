"""Every kernel of a package timed by PyTorch's profiler: on the CPU as kernels announce themselves, on a GPU by CUPTI."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, record_function

from ..errors import InferenceError
from .runner import Runner

_ROUND = "modelport round"
_ANNOUNCED = ("aoti_torch_", "graph_", "cpp_")  # on the CPU: library kernels, and generated ones in two spellings


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """Kernels over some rounds.

    Attributes:
        names: in the order of their start.
        starts_us, durations_us: rounds x kernels; starts from the start of the round.
        latencies_s: of each round, seconds, with the profiler on.
    """

    names: tuple[str, ...]
    starts_us: np.ndarray
    durations_us: np.ndarray
    latencies_s: tuple[float, ...]


def time_kernels(runner: Runner, batch: np.ndarray, warmup: int, rounds: int) -> KernelTimes:
    """Run a batch again and again and time its kernels.

    Raises:
        InferenceError: the profiler saw no kernels, or others in one round than in another.
    """
    on_gpu = runner.facts.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    latencies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's notices about itself
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(warmup + rounds):
                start = perf_counter()
                with record_function(_ROUND):
                    runner.run(batch)
                latencies.append(perf_counter() - start)
        events = list(profiler.events())
    marks = sorted((event for event in events if event.name == _ROUND and _on_cpu(event)), key=_start)[warmup:]
    kernels = sorted((event for event in events if _is_kernel(event, on_gpu)), key=_start)
    found = [[event for event in kernels if _start(mark) <= _start(event) < mark.time_range.end] for mark in marks]
    names = [tuple(event.name for event in each) for each in found]
    if len(found) != rounds or not names[0] or any(each != names[0] for each in names):
        raise InferenceError(
            f"{runner.path}: PyTorch's profiler saw {len(names[0]) if names else 0} kernels in the first of {len(names)} rounds and "
            "not the same ones in each; profile it again, or compile it again"
        )
    return KernelTimes(
        names=names[0],
        starts_us=np.array(
            [[_start(event) - _start(mark) for event in each] for mark, each in zip(marks, found, strict=True)]
        ),
        durations_us=np.array([[event.time_range.elapsed_us() for event in each] for each in found]),
        latencies_s=tuple(latencies[warmup:]),
    )


def _start(event: FunctionEvent) -> float:
    return event.time_range.start


def _on_cpu(event: FunctionEvent) -> bool:
    return event.device_type == torch.autograd.DeviceType.CPU


def _is_kernel(event: FunctionEvent, on_gpu: bool) -> bool:
    if on_gpu:
        return not _on_cpu(event) and event.name != _ROUND
    return _on_cpu(event) and event.name.startswith(_ANNOUNCED)
