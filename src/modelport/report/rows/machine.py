"""What was run, where, and whether the machine was left alone meanwhile."""

from __future__ import annotations

from ...results import Hygiene, RunResult
from .table import Table


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
    """Whether the machine was left alone during each measurement, and how fast it was clocked."""
    measured = [
        (target.name, what, found)
        for target in result.targets
        for what, found in (
            *((f"pure inference, batch {bench.batch_size}", bench.hygiene) for bench in target.performance),
            ("real-data run", target.inference.hygiene),
        )
    ]
    rows = [(name, what, *_hygiene_cells(found)) for name, what, found in measured]
    columns = ("target", "measurement", "others before, cores", "others meanwhile, cores", "clock, MHz", "")
    notes = ["Others: what processes that are not this run's used. Clock: at the start and at the end, as the system tells it; a "
             "virtual machine may tell its nominal one."]  # fmt: skip
    return Table("Was the machine ours alone?", columns, rows, frozenset({2, 3, 4}), notes)


def _hygiene_cells(found: Hygiene | None) -> tuple[str, str, str, str]:
    if found is None:
        return "—", "—", "—", "not watched"
    during = "—" if found.busy_during is None else f"{found.busy_during:.2f}"
    clock = "—" if found.clock_mhz is None else " → ".join(f"{each:,.0f}" for each in found.clock_mhz)
    return f"{found.busy_before:.2f}", during, clock, f"BUSY: {found.text}" if found.busy else "yes"
