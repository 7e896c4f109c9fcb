"""What the reports say, as tables of text, whatever they are rendered to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..results import (
    Accuracy,
    BenchResult,
    Gate,
    GateCheck,
    Hygiene,
    InferResult,
    Paired,
    Parity,
    ReferenceAccuracy,
    RunResult,
    TargetResult,
)

DISAGREEMENT = 0.1  # between pure inference and the real-data run, beyond which the reports say so


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table. `numeric` columns are set to the right; `notes` stand below it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()
    notes: list[str] = field(default_factory=list)


def verdict(result: RunResult) -> str:
    """The outcome in one sentence."""
    failed = [target.name for target in result.targets if not target.gate.passed]
    if failed:
        return f"FAILED: {', '.join(failed)} did not pass its gate"
    if not any(target.gate.checks for target in result.targets):
        return "NO VERDICT: nothing to hold the targets against (no labels, no source run, no recorded accuracy)"
    return f"PASSED: all {len(result.targets)} targets kept what the source can do"


def summary(result: RunResult) -> Table:
    """One row per target: accuracy, what changed, parity, best speed, verdict."""
    columns = (
        "target",
        "runs in",
        "top-1",
        "top-5",
        "lost / gained",
        "relative error",
        "best pure img/s",
        "e2e img/s",
        "gate",
    )
    rows = []
    if result.source_name:
        top1, top5 = _top(result.source_accuracy)
        rows.append((f"{result.source_name} (source)", "f32", top1, top5, "", "", "", "", ""))
    for target in result.targets:
        top1, top5 = _top(target.accuracy)
        best = target.best
        rows.append(
            (
                target.name,
                target.runs_in,
                top1,
                top5,
                f"{target.paired.lost} / {target.paired.gained}" if target.paired else "—",
                f"{target.parity.relative_error:.1e}" if target.parity else "—",
                f"{best.throughput:,.1f} at batch {best.batch_size}" if best else "—",
                f"{target.inference.e2e.throughput:,.1f}",
                gate_word(target.gate),
            )
        )
    return Table("Summary", columns, rows, frozenset(range(2, 8)), _summary_notes(result))


def _summary_notes(result: RunResult) -> list[str]:
    notes = []
    accuracy = next((target.accuracy for target in result.targets if target.accuracy), None)
    if accuracy:
        notes.append(denominator(accuracy))
    if result.random_weights:
        notes.append("Random weights: the speed is real, accuracy and decisions mean nothing.")
    if any(target.paired for target in result.targets):
        notes.append(f"Lost / gained: images right by {result.source_name} and wrong here / the other way round.")
    if any(target.parity for target in result.targets):
        notes.append("Relative error: largest score difference from the source, as a share of its largest score.")
    notes += [f"{target.name}: quantised by {target.calibration}." for target in result.targets if target.calibration]
    notes += [_fast(target) for target in result.targets if target.inference.fast_check]
    return notes + [note for target in result.targets for note in _disturbed(target)]


def _fast(target: TargetResult) -> str:
    check = target.inference.fast_check
    assert check is not None
    return (
        f"{target.name}: images were prepared fast; against the exact path, on {check.images:,} of them, pixels differ by at most "
        f"{check.largest_difference} of 255 and {check.changed:,} decisions changed."
    )


def _disturbed(target: TargetResult) -> list[str]:
    """A note where any of a target's measurements was disturbed."""
    measured = [(f"pure inference, batch {bench.batch_size}", bench.hygiene) for bench in target.performance]
    measured.append(("the real-data run", target.inference.hygiene))
    busy = [f"{what}: {hygiene.text}" for what, hygiene in measured if hygiene is not None and hygiene.busy]
    if not busy:
        return []
    return [
        f"{target.name}: the machine was busy in {len(busy)} of {len(measured)} measurements, so its speeds are doubtful "
        f"(first: {busy[0]})."
    ]


def _busy(what: str, hygiene: Hygiene | None) -> list[str]:
    """A note where one measurement was disturbed."""
    return [f"{what}: the machine was busy: {hygiene.text}."] if hygiene is not None and hygiene.busy else []


def accuracy(result: RunResult) -> Table | None:
    """TopN with Wilson intervals: the source, each target, recorded and informational figures."""
    if not any(target.accuracy for target in result.targets):
        return None
    columns = ("", "images", *(f"top-{n}" for n in range(1, 6)), "top-1, 95 % interval")
    rows = []
    if result.source_name and result.source_accuracy:
        rows.append(_accuracy_row(f"{result.source_name} (source)", result.source_accuracy))
    rows += [_accuracy_row(target.name, target.accuracy) for target in result.targets if target.accuracy]
    if result.recorded:
        rows.append(_recorded_row(result.recorded, "recorded"))
    rows += [_recorded_row(item, "for information") for item in result.information]
    first = next(target.accuracy for target in result.targets if target.accuracy)
    return Table("Accuracy", columns, rows, frozenset(range(1, 8)), [denominator(first)])


def denominator(accuracy: Accuracy) -> str:
    """What the percentages are of."""
    parts = [f"Of {accuracy.images:,} labelled images, {accuracy.classes:,} classes"]
    if accuracy.missing:
        parts.append(f"{accuracy.missing:,} without a prediction counted as wrong (first: {accuracy.first_missing[0]})")
    if accuracy.failed:
        parts.append(f"{accuracy.failed:,} unreadable counted as wrong")
    if accuracy.not_requested:
        parts.append(f"{accuracy.not_requested:,} more labelled images were left out by the limit")
    if accuracy.extra:
        parts.append(f"{accuracy.extra:,} images without a label not counted (first: {accuracy.first_extra[0]})")
    return "; ".join(parts) + "."


def paired(result: RunResult) -> Table | None:
    """Decisions and scores held against the source's, image by image."""
    rows = [
        (target.name, *_paired_cells(target.paired), *_parity_cells(target.parity))
        for target in result.targets
        if target.paired
    ]
    if not rows:
        return None
    columns = (
        "target",
        "images",
        "changed",
        "lost",
        "gained",
        "McNemar p",
        "max error",
        "mean error",
        "cosine",
        "same top-1",
    )
    notes = [
        f"Against {result.source_name} on the same images.",
        "McNemar p: chance of a split this uneven if neither were better (exact, two-sided).",
    ]
    return Table("Decisions and scores against the source", columns, rows, frozenset(range(1, 10)), notes)


def gates(result: RunResult) -> Table:
    """Every check of every gate."""
    rows = [
        (target.name, check.name, *_check_cells(check), "passed" if check.passed else "FAILED")
        for target in result.targets
        for check in target.gate.checks
    ]
    return Table(
        "Gate", ("target", "check", "reference", "measured", "drop", "limit", ""), rows, frozenset({2, 3, 4, 5})
    )


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
        f"{first.engine} {first.engine_version}, {first.executed_precision}; {first.rounds} rounds after {first.warmup} of warmup; "
        "latency in milliseconds per batch.",
        *(note for bench in results for note in _busy(f"Batch {bench.batch_size}", bench.hygiene)),
    ]
    return Table(title, columns, rows, frozenset(range(9)), notes)


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
    columns = (
        "stage",
        "workers",
        "items",
        "images",
        "failures",
        "busy s",
        "waited for input s",
        "waited for output s",
        "busy",
        "processor s",
        "alone img/s",
        "e2e without it",
    )
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
    return Table(title, columns, rows, frozenset(range(1, 12)), notes)


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


def bad_images(result: RunResult) -> Table | None:
    """Images that could not be classified; the same for every target unless an engine failed on them."""
    rows = [(target.name, bad.key, bad.reason) for target in result.targets for bad in target.inference.bad_images]
    return Table("Images that could not be classified", ("target", "image", "reason"), rows) if rows else None


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


def gate_word(gate: Gate) -> str:
    """The gate in a word."""
    return ("passed" if gate.passed else "FAILED") if gate.checks else "no checks"


def target_title(target: TargetResult) -> str:
    """A target with its engine's version."""
    return f"{target.name} ({target.engine} {target.engine_version}, runs in {target.runs_in})"


def _top(accuracy: Accuracy | None) -> tuple[str, str]:
    return (percent(accuracy.topn[0]), percent(accuracy.topn[-1])) if accuracy else ("—", "—")


def percent(share: float) -> str:
    """A fraction as a percentage with two places."""
    return f"{share * 100:.2f} %"


def _accuracy_row(name: str, accuracy: Accuracy) -> tuple[str, ...]:
    interval = accuracy.interval95[0]
    shares = [percent(share) for share in accuracy.topn] + ["—"] * (5 - len(accuracy.topn))
    return (name, f"{accuracy.images:,}", *shares, f"{interval.low * 100:.2f}–{interval.high * 100:.2f} %")


def _recorded_row(item: ReferenceAccuracy, kind: str) -> tuple[str, ...]:
    top5 = f"{item.top5:.2f} %" if item.top5 is not None else "—"
    return (f"{item.source} ({kind})", "", f"{item.top1:.2f} %", "—", "—", "—", top5, "")


def _paired_cells(paired: Paired | None) -> tuple[str, ...]:
    if paired is None:
        return ("—",) * 5
    return (f"{paired.images:,}", str(paired.changed), str(paired.lost), str(paired.gained), f"{paired.p_value:.3g}")


def _parity_cells(parity: Parity | None) -> tuple[str, ...]:
    if parity is None:
        return ("—",) * 4
    return (
        f"{parity.max_abs_error:.2e}",
        f"{parity.mean_abs_error:.2e}",
        f"{parity.cosine:.7f}",
        percent(parity.top1_agreement),
    )


def _check_cells(check: GateCheck) -> tuple[str, str, str, str]:
    if check.unit == "points":
        reference = "—" if check.reference is None else f"{check.reference:.2f} %"
        return reference, f"{check.measured:.2f} %", f"{check.drop:+.2f} points", f"{check.limit:g} points"
    return "—", f"{check.measured:.1e}", "", f"{check.limit:.0e}"


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
