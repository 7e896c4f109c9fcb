"""Results as commands make them, built in code, and latencies as machines make them: heavy-tailed and autocorrelated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import models
import numpy as np
import pyarrow as pa

from modelport.data.predictions import schema, writing
from modelport.results import (
    Accuracy,
    BenchResult,
    EndToEnd,
    Environment,
    Gate,
    GateCheck,
    Hygiene,
    InferResult,
    Interface,
    RunResult,
    StageStats,
    TargetResult,
)
from modelport.results.history import HistoryEntry
from modelport.spec import Precision

ENVIRONMENT = Environment(
    modelport="0.1.0",
    python="3.11.9",
    system="Linux 6.1",
    machine="x86_64",
    cpu="Imaginary 9000",
    cpu_family="zen4",
    cpu_features=("avx2", "avx512f"),
    cores=8,
    memory_bytes=32 << 30,
    packages={"numpy": "2.1.0"},
)
OTHER_MACHINE = ENVIRONMENT.model_copy(update={"cpu": "Imaginary 9001"})
QUIET = Hygiene(busy_before=0.0, busy_during=0.01)
BUSY = Hygiene(busy_before=1.4, busy_during=1.2, reasons=("other processes used 1.20 cores meanwhile (make)",))
ONNX = "ab" * 32
TARGET = {
    "engine": "null",
    "engine_version": "1",
    "precision": Precision.F32,
    "executed_precision": Precision.F32,
}


def rounds(
    rng: np.random.Generator, count: int = 50, median_s: float = 5e-3, between: float = 0.01
) -> tuple[float, ...]:
    """Latencies of one process.

    Args:
        rng: where chance comes from.
        count: rounds.
        median_s: of the machine, seconds.
        between: standard deviation from process to process.
    """
    noise, state = np.empty(count), 0.0
    for index in range(count):  # an AR(1) process: neighbours are alike
        state = 0.6 * state + 0.8 * 0.02 * rng.standard_normal()
        noise[index] = state
    noise += between * rng.standard_normal()
    spiked = rng.random(count) < 0.05  # a twentieth of the rounds is interrupted
    noise[spiked] += rng.exponential(0.3, spiked.sum())
    return tuple(map(float, median_s * np.exp(noise)))


def steady(median_s: float, count: int = 50) -> tuple[float, ...]:
    """Latencies within half a per cent, without chance."""
    return tuple(median_s * (1 + 0.005 * ((index * 7) % 11 - 5) / 5) for index in range(count))


def bench(
    latencies: Sequence[float], *, batch: int = 8, hygiene: Hygiene = QUIET, where: Environment = ENVIRONMENT
) -> BenchResult:
    """Pure inference with these latencies."""
    return BenchResult(
        **TARGET,
        batch_size=batch,
        warmup_s=(0.01,),
        latencies_s=tuple(latencies),
        wall_s=sum(latencies),
        environment=where,
        hygiene=hygiene,
    )


def bench_entry(
    latencies: Sequence[float], *, started: str = "2026-11-26T12:00:00+00:00", **more: object
) -> HistoryEntry:
    """An entry of one measurement."""
    return HistoryEntry(
        kind="bench",
        started=started,
        name="tiny",
        model=models.SPEC,
        onnx_sha256=ONNX,
        benches=(bench(latencies, **more),),
    )


def infer(images: int, *, where: Environment = ENVIRONMENT) -> InferResult:
    """A real-data run of some images."""
    stage = StageStats(
        name="infer", workers=1, items=images, images=images, failures=0, busy_s=1.0, blocked_get_s=0.0, blocked_put_s=0.0,
        finished_s=1.0, wall_s=1.0,
    )  # fmt: skip
    return InferResult(
        **TARGET,
        batch_size=8,
        model=models.SPEC,
        images=images,
        failures=0,
        limit=None,
        source="pictures",
        e2e=EndToEnd(throughput=float(images), wall_s=1.0),
        interface=Interface(throughput=float(images), busy_s=1.0),
        stages=(stage,),
        bad_images=(),
        environment=where,
        hygiene=QUIET,
    )


def accuracy(right: int, images: int) -> Accuracy:
    """Top1 of `right` images; all have their class among the first two."""
    return Accuracy(images=images, classes=models.CLASSES, hits=(right, images, images, images, images))


def run(
    *,
    latencies: Sequence[Sequence[float]] = (),
    right: int = 90,
    images: int = 100,
    passed: bool = True,
    where: Environment = ENVIRONMENT,
    hygiene: Hygiene = QUIET,
    **more: object,
) -> RunResult:
    """A job of one target: a batch size for each of `latencies`, from 1 doubling."""
    check = GateCheck(name="top1", unit="points", reference=90.0, measured=90.0, limit=1.0, passed=passed)
    benches = tuple(bench(found, batch=2**n, where=where, hygiene=hygiene) for n, found in enumerate(latencies))
    target = TargetResult(
        **TARGET,
        accuracy=accuracy(right, images),
        parity=None,
        paired=None,
        inference=infer(images, where=where),
        performance=benches,
        gate=Gate(tolerance_points=1.0, checks=(check,)),
    )
    values = {
        "name": "tiny",
        "started": "2026-11-26T12:00:00+00:00",
        "wall_s": 12.5,
        "recipe": "tiny.yaml",
        "model": models.SPEC,
        "opset": 17,
        "onnx_sha256": ONNX,
        "random_weights": False,
        "export_parity": None,
        "warnings": (),
        "environment": where,
        "images": images,
        "source_name": None,
        "source_accuracy": None,
        "recorded": None,
        "information": (),
        "targets": (target,),
        "commands": (),
    }
    return RunResult(**values | more)


def save_predictions(path: Path, first: Sequence[int], labels: Sequence[int | None], prefix: str = "image") -> Path:
    """A predictions file in which these classes come first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = schema(models.CLASSES, all_scores=False)
    order = [[c, *(other for other in range(models.CLASSES) if other != c)] for c in first]
    data = {
        "key": [f"{prefix}{n:05}.png" for n in range(len(first))],
        "label": list(labels),
        "top": order,
        "top_scores": [[5.0, 4.0, 3.0, 2.0, 1.0]] * len(first),
        "error": [None] * len(first),
        "sha256": [None] * len(first),
    }
    with writing(path, columns) as writer:
        writer.write(pa.table({name: data[name] for name in columns.names}, schema=columns))
    return path


def save_run(
    directory: Path, *, first: Sequence[int] | None = None, labels: Sequence[int] | None = None, **more: object
) -> Path:
    """A job's directory: `run.json`, and predictions where they are given."""
    directory.mkdir(parents=True, exist_ok=True)
    if first is not None and labels is not None:
        save_predictions(directory / "null-f32" / "predictions" / "predictions.parquet", first, labels)
        more |= {"images": len(first), "right": sum(a == b for a, b in zip(first, labels, strict=True))}
    run(**more).write(directory / "run.json")
    return directory
