"""Pure inference: everybody at one batch size, on what lies in the device's memory, interleaved; each checked before it is timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import ours
from .clock import Contestant, Device, Timing
from .compiling import Job
from .contestants import batch_of, compiled, prepared
from .correct import Check, compare
from .record import first_line

EAGER = "eager"
PEER = Job("torch.compile", 1).name
# Share of the scores' norm: a contestant that is further off computes something else.
MOST_WRONG = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class Contest:
    """What is held fixed at all batch sizes."""

    device: Device
    network: nn.Module  # float32, on the processor
    reference: Callable[[Tensor], Tensor]  # pixels to float32 scores
    dtype: torch.dtype
    directory: Path
    turns: int
    seconds: float


def at_batch(contest: Contest, pixels: Tensor, jobs: list[Job], failed: Callable[[str], None]) -> dict[str, Any]:
    """Time everybody who can run this batch of pixels, which lies on the device.

    Args:
        jobs: what was compiled for this batch size.
        failed: gets who could not run, or computes something else, with the reason.
    """
    expected = contest.reference(pixels)
    checks: dict[str, dict[str, float]] = {}
    found: dict[str, Contestant] = {}
    torch.compiler.reset()  # one batch size at a time: beyond eight, torch.compile would go on without compiling
    with ExitStack() as stack:
        for name, enter in _entrants(contest, pixels, jobs):
            try:
                contestant, scores = stack.enter_context(enter())
                check = compare(scores, expected)
                checks[name] = check.told()
                _require_right(check, MOST_WRONG[contest.dtype])
                found[name] = contestant
            except Exception as error:  # out of memory, a kernel that is not there: the others go on
                failed(f"{name}, batch {len(pixels)}: {type(error).__name__}: {first_line(error)}")
        timings = contest.device.interleaved(found, turns=contest.turns, seconds=contest.seconds)
    if contest.device.cuda:
        torch.cuda.empty_cache()
    return _told(timings, checks, len(pixels)) | {"compiler_cache": _cache()}


def _entrants(contest: Contest, pixels: Tensor, jobs: list[Job]) -> Iterator[tuple[str, Callable[[], Any]]]:
    for channels_last in (False, True):
        name = EAGER + (", channels last" if channels_last else "")
        yield name, lambda last=channels_last: _eager(contest, pixels, channels_last=last)
    for job in jobs:
        yield job.name, lambda job=job: (_package if job.kind == "package" else _compiled)(contest, pixels, job)


@contextmanager
def _eager(contest: Contest, pixels: Tensor, *, channels_last: bool) -> Iterator[tuple[Contestant, Tensor]]:
    network = prepared(contest.network, contest.device.name, contest.dtype, channels_last=channels_last)
    images = batch_of(pixels, contest.dtype, channels_last=channels_last)
    yield Contestant(lambda: network(images)), network(images)


@contextmanager
def _compiled(contest: Contest, pixels: Tensor, job: Job) -> Iterator[tuple[Contestant, Tensor]]:
    network = prepared(contest.network, contest.device.name, contest.dtype, channels_last=job.channels_last)
    run = compiled(network, tuned=job.tuned)
    images = batch_of(pixels, contest.dtype, channels_last=job.channels_last)
    for _ in range(3):  # in max-autotune the first calls record a CUDA graph
        scores = run(images).clone()
    yield Contestant(lambda: run(images)), scores


@contextmanager
def _package(contest: Contest, pixels: Tensor, job: Job) -> Iterator[tuple[Contestant, Tensor]]:
    with ours.opened(contest.directory / f"{job.file}.pt2") as runner:
        scores = torch.from_numpy(runner.run(pixels.cpu().numpy()))  # the batch stays in its memory, for `replay`
        yield Contestant(runner.replay, getattr(runner, "stream", None)), scores


def _require_right(check: Check, most: float) -> None:
    if not check.error <= most:  # NaN is not
        raise ValueError(
            f"its scores are {check.error:.3g} of their norm away from float32's, at most {most} is accepted"
        )


def _told(timings: dict[str, Timing], checks: dict[str, dict[str, float]], batch: int) -> dict[str, Any]:
    """Figures of all turns but the first, by which the best of our own variants is chosen."""
    told: dict[str, Any] = {"contestants": {}, "checks": checks}
    later = {name: Timing(seconds=t.seconds[1:] or t.seconds, calls=t.calls) for name, t in timings.items()}
    for name, timing in later.items():
        told["contestants"][name] = timing.told(batch)
    mine = {name: timing for name, timing in timings.items() if name.startswith("modelport")}
    if mine:
        best = min(mine, key=lambda name: mine[name].seconds[0])
        told["best"] = best
        told["ratios"] = {
            name: _ratio(timing, later[best]) for name, timing in later.items() if not name.startswith("modelport")
        }
    return told


def _cache() -> dict[str, int]:
    """How often torch.compile found on disk what the processes before had compiled, and how often it did not."""
    from torch._dynamo.utils import counters

    found = {**counters["inductor"], **counters["aot_autograd"]}
    return {name: count for name, count in found.items() if "cache_hit" in name or "cache_miss" in name}


def _ratio(peer: Timing, mine: Timing) -> dict[str, float]:
    """How many times as fast we are, turn by turn."""
    ratios = [theirs / own for theirs, own in zip(peer.seconds, mine.seconds, strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def split(runner: Any, pixels: Any, *, rounds: int = 20) -> dict[str, float]:
    """Median milliseconds of copying in, computing and copying out, of batches that go through one by one."""
    times = []
    for _ in range(rounds):
        ticket = runner.submit(pixels)
        runner.wait(ticket)
        times.append(ticket.times)
    names = ("to_device_ms", "compute_ms", "to_host_ms")
    return {name: statistics.median(getattr(time, name) for time in times) for name in names}
