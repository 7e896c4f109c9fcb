"""Speed: pure inference by batch size, the three throughputs side by side, stages and devices of real-data runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from ...results import BenchResult, Hygiene, InferResult, RunResult, TargetResult
from .machine import uneven
from .table import Table

DISAGREEMENT = 0.1  # between pure inference and the real-data run, beyond which the reports say so
_STAGE_COLUMNS = (
    "stage", "workers", "items", "images", "failures", "busy s", "waited for input s", "waited for output s", "busy", "processor s",
    "alone img/s", "e2e without it",
)  # fmt: skip


def performance(result: RunResult) -> list[Table]:
    """One table per target: pure inference by batch size."""
    return [bench_table(target.performance, target.name) for target in result.targets if target.performance]


def bench_table(results: Iterable[BenchResult], title: str) -> Table:
    """Pure inference by batch size."""
    results = list(results)
    columns = ("batch", "img/s", "10–90 % of rounds", "mean ms", "p50", "p90", "p95", "p99", "max")
    rows = []
    for result in results:
        low, high = result.throughput_spread
        ms = result.latency_ms
        figures = (f"{value:,.2f}" for value in (ms.mean, ms.p50, ms.p90, ms.p95, ms.p99, ms.max))
        rows.append((str(result.batch_size), f"{result.throughput:,.1f}", f"{low:,.0f}–{high:,.0f}", *figures))
    first = results[0]
    notes = [
        f"{first.engine} {first.engine_version}, {first.executed_precision}; {_rounds(results)}; latency in milliseconds per batch.",
        *(note for bench in results for note in _busy(f"Batch {bench.batch_size}", bench.hygiene)),
        *uneven(bench.hygiene for bench in results),
    ]
    return Table(title, columns, rows, frozenset(range(9)), notes)


def _rounds(results: Sequence[BenchResult]) -> str:
    least, most = min(bench.rounds for bench in results), max(bench.rounds for bench in results)
    if least == most:
        return f"{least} rounds after {results[0].warmup} of warmup"
    return f"{least} to {most} rounds, more where batches are short, after {results[0].warmup} of warmup"


def by_batch(result: RunResult) -> Table | None:
    """Pure inference of all targets side by side: images a second with their spread."""
    return _side_by_side(result, "Images a second (10–90 % of rounds)", _throughput)


def latencies(result: RunResult) -> Table | None:
    """Latency of a batch of all targets side by side."""
    return _side_by_side(result, "Milliseconds per batch: p50 / p99", _latency)


def _side_by_side(result: RunResult, title: str, cell: Callable[[BenchResult], str]) -> Table | None:
    timed = [
        {bench.batch_size: bench for bench in target.performance} for target in result.targets if target.performance
    ]
    if not timed:
        return None
    rows = [
        (str(size), *(cell(found[size]) if size in found else "—" for found in timed))
        for size in sorted({size for found in timed for size in found})
    ]
    columns = ("batch", *(target.name for target in result.targets if target.performance))
    return Table(title, columns, rows, frozenset(range(len(columns))))


def _throughput(bench: BenchResult) -> str:
    low, high = bench.throughput_spread
    return f"{bench.throughput:,.1f} ({low:,.0f}–{high:,.0f})"


def _latency(bench: BenchResult) -> str:
    return f"{bench.latency_ms.p50:,.2f} / {bench.latency_ms.p99:,.2f}"


def three_speeds(result: RunResult) -> Table:
    """Pure, interface and end-to-end throughput side by side at the accuracy run's batch size."""
    columns = ("target", "batch", "pure inference", "interface", "end to end", "end to end ÷ pure", "limited by")
    rows = []
    for target in result.targets:
        run = target.inference
        pure = target.pure_counterpart.throughput if target.pure_counterpart else None
        rows.append(
            (
                target.name,
                str(run.batch_size),
                f"{pure:,.1f}" if pure else "—",
                f"{run.interface.throughput:,.1f}",
                f"{run.e2e.throughput:,.1f}",
                f"{run.e2e.throughput / pure:.0%}" if pure else "—",
                f"{run.limiting_stage.name} ({run.limiting_stage.busy_share:.0%} busy{_forecast(run)})",
            )
        )
    notes = [
        "Images a second. Pure: one prepared batch again and again. Interface: images of the real-data run ÷ time in which the "
        "engine was executing. End to end: from file on disk to TopN. The real-data figures count; pure inference is a quick look.",
        *(note for target in result.targets for note in _disagreement(target)),
    ]
    return Table("Three speeds", columns, rows, frozenset(range(1, 6)), notes)


def _disagreement(target: TargetResult) -> list[str]:
    """A note where pure inference tells another speed than the real-data run."""
    share, pure, run = target.pure_disagreement, target.pure_counterpart, target.inference
    if share is None or pure is None or abs(share) <= DISAGREEMENT:
        return []
    where = "above" if share > 0 else "below"
    return [
        f"{target.name}: pure inference ({pure.throughput:,.1f}) is {abs(share):.0%} {where} the interface throughput of the "
        f"real-data run ({run.interface.throughput:,.1f}) at batch {run.batch_size}; the real-data figure counts."
    ]


def _forecast(run: InferResult) -> str:
    freed = run.without(run.limiting_stage.name)
    return f"; without it {freed:,.0f} img/s" if freed else ""


def stages(run: InferResult, title: str) -> Table:
    """What each stage of a real-data run did."""
    rows = [
        (
            stage.name,
            str(stage.workers),
            f"{stage.items:,}",
            f"{stage.images:,}",
            f"{stage.failures:,}",
            f"{stage.busy_s:.3f}",
            f"{stage.blocked_get_s:.3f}",
            f"{stage.blocked_put_s:.3f}",
            f"{stage.busy_share:.0%}",
            f"{stage.cpu_s:.3f}",
            _rate(stage.capacity(run.environment.cores)),
            _rate(run.without(stage.name)),
        )
        for stage in run.stages
    ]
    notes = [f"{run.images:,} images in {run.e2e.wall_s:.2f} s; seconds are summed over a stage's workers."]
    if run.restarts is not None:
        notes.append(f"The engine ran in a process of its own (restarts: {run.restarts:,}).")
    if run.bound:
        notes.append(
            f"End to end {run.e2e.throughput:,.1f} img/s is {run.e2e.throughput / run.bound:.0%} of the {run.bound:,.1f} that stages "
            f"and {run.environment.cores} cores would allow if nothing ever waited. Without it: forecast if the stage cost nothing."
        )
    notes += _busy("Real-data run", run.hygiene)
    return Table(title, _STAGE_COLUMNS, rows, frozenset(range(1, 12)), notes)


def devices_table(run: InferResult | BenchResult) -> Table | None:
    """What each of several devices did; nothing where there was one."""
    devices, scaling = run.by_device, run.scaling
    if len(devices) < 2:
        return None
    rows = [
        (
            d.name,
            f"{d.images:,}",
            f"{d.busy_s:.2f}",
            f"{d.busy_share:.0%}",
            f"{d.throughput:,.1f}",
            f"{d.images / d.wall_s:,.1f}",
        )
        for d in devices
    ]
    images, wall = sum(device.images for device in devices), max(device.wall_s for device in devices)
    rows.append(("in all", f"{images:,}", "", "", "", f"{images / wall:,.1f}"))
    one = "the first alone" if isinstance(run, BenchResult) else "one of them while it executes"
    notes = [f"{len(devices)} devices are {scaling:.2f} times {one}."] if scaling else []
    columns = ("device", "images", "busy s", "busy", "img/s while busy", "img/s of the run")
    return Table("Devices", columns, rows, frozenset(range(1, 6)), notes)


def _rate(value: float | None) -> str:
    return "—" if value is None or math.isinf(value) else f"{value:,.0f}"


def _busy(what: str, hygiene: Hygiene | None) -> list[str]:
    """A note where one measurement was disturbed."""
    return [f"{what}: the machine was busy: {hygiene.text}."] if hygiene is not None and hygiene.busy else []
