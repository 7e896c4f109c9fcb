"""What was run, where, and whether the machine was left alone meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from ...results import Hygiene, RunResult
from .table import Table

UNEVEN = 1.1  # slowest ÷ fastest pace of the machine from which on it is spoken of


def environment(result: RunResult) -> Table:
    """Machine and software."""
    env, pre = result.environment, result.preprocess
    rows = [
        ("model", f"{result.model.arch}, {result.model.num_classes:,} classes, opset {result.opset}"),
        ("checkpoint sha256", result.model.checkpoint_sha256 or "none (random weights, or an ONNX file)"),
        ("ONNX sha256", result.onnx_sha256),
        ("preprocessing", preprocessing(result)),
        ("colour order, mean, std", f"{pre.color_order}, {_list(pre.mean)}, {_list(pre.std)}"),
        ("processor", f"{env.cpu} ({env.cpu_family}), {env.cores} cores usable, {env.memory_bytes / 2**30:.0f} GiB"),
        ("system", f"{env.system}, {env.machine}"),
        ("software", ", ".join([f"modelport {env.modelport}", f"Python {env.python}", *(f"{k} {v}" for k, v in env.packages.items())])),
        ("run", f"{result.started}, {result.wall_s:.0f} s"),
    ]  # fmt: skip
    return Table("Environment", ("", ""), rows)


def preprocessing(result: RunResult) -> str:
    """Preprocessing in words."""
    pre = result.preprocess
    (height, width), (_, crop_height, crop_width) = pre.resize_size, pre.input_size
    resize = f"shorter side to {height}" if pre.crop_mode == "center" and height == width else f"to {height}x{width}"
    return f"resize {resize}, {pre.interpolation}, crop {crop_height}x{crop_width} (crop_pct {pre.crop_pct:g}, {pre.crop_mode})"


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def hygiene(result: RunResult) -> Table:
    """Whether the machine was left alone during each measurement, and how fast it was itself."""
    rows = [(name, what, *_hygiene_cells(found)) for name, what, found in watched(result)]
    columns = ("target", "measurement", "others before, cores", "others meanwhile, cores", "clock, MHz", "pace, ms", "")
    notes = ["Others: what processes that are not this run's used. Clock: at the start and at the end, as the system tells it; a "
             "virtual machine may tell its nominal one. Pace: what one fixed product of matrices took just before and just after; where "
             "that differs, the machine itself was faster or slower, as a virtual machine is that has neighbours."]  # fmt: skip
    return Table("Was the machine ours alone?", columns, rows, frozenset({2, 3, 4, 5}), notes)


def watched(result: RunResult) -> list[tuple[str, str, Hygiene | None]]:
    """Target, measurement and hygiene of everything that was timed."""
    return [
        (target.name, what, found)
        for target in result.targets
        for what, found in (
            *((f"pure inference, batch {bench.batch_size}", bench.hygiene) for bench in target.performance),
            ("real-data run", target.inference.hygiene),
        )
    ]


def uneven(measured: Iterable[Hygiene | None]) -> list[str]:
    """A note where the machine itself was not equally fast in all of these measurements."""
    paces = [pace for found in measured if found is not None for pace in found.pace_s or ()]
    if not paces or max(paces) <= UNEVEN * min(paces):
        return []
    return [
        f"The machine itself was {max(paces) / min(paces) - 1:.0%} slower at times than at others, so speeds are not quite comparable."
    ]


def _hygiene_cells(found: Hygiene | None) -> tuple[str, str, str, str, str]:
    if found is None:
        return "—", "—", "—", "—", "not watched"
    during = "—" if found.busy_during is None else f"{found.busy_during:.2f}"
    clock = "—" if found.clock_mhz is None else " → ".join(f"{each:,.0f}" for each in found.clock_mhz)
    pace = "—" if found.pace_s is None else " → ".join(f"{each * 1e3:.2f}" for each in found.pace_s)
    return f"{found.busy_before:.2f}", during, clock, pace, f"BUSY: {found.text}" if found.busy else "yes"
