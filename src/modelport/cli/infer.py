"""`modelport infer`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .remember import Memory, history_options
from .shared import (
    IMAGES,
    IMAGES_HELP,
    PATH,
    cluster_options,
    emit,
    force_option,
    json_option,
    progress,
    session_options,
)

if TYPE_CHECKING:
    from ..cluster.connection import ClusterOptions
    from ..results import FastCheck, InferResult
    from ..resumable import Existing


@click.command()
@click.argument("model", type=PATH)
@click.option("--images", type=IMAGES, required=True, help=IMAGES_HELP)
@click.option("--labels", type=PATH, help="Label file, `name class` per line; kept in the predictions.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option("--scores", is_flag=True, help="Keep all scores, not only the highest five.")
@click.option(
    "--on-bad-image",
    type=click.Choice(["count", "fail"]),
    default="count",
    show_default=True,
    help="List it and go on, or end the run.",
)
@click.option(
    "--preprocess",
    "preprocessing",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="fast: crop while resizing; how near it came is measured on a sample and told.",
)
@click.option(
    "--decode",
    "decoding",
    type=click.Choice(["cpu", "nvjpeg"]),
    default="cpu",
    show_default=True,
    help="nvjpeg: decode JPEG on an NVIDIA GPU; how far its pixels are from the processor's is measured on a sample and told.",
)
@click.option(
    "--decoders", type=click.IntRange(min=1), help="Threads that decode (in each actor); all cores if left out."
)
@session_options
@click.option(
    "--isolate",
    is_flag=True,
    help="Run the engine in a process of its own: an image that crashes or hangs it is listed, the others are classified.",
)
@click.option(
    "--batch-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="With --isolate: a batch that takes longer hangs; 60 if left out.",
)
@cluster_options
@click.option("-o", "--output", type=PATH, required=True, help="Directory for predictions.parquet and infer.json.")
@history_options
@force_option
@json_option
def command(
    model: Path, images: Path, labels: Path | None, limit: int | None, scores: bool, on_bad_image: str,
    preprocessing: Literal["exact", "fast"], decoding: Literal["cpu", "nvjpeg"], decoders: int | None,
    streams: int | None, threads: int | None, devices: tuple[int, ...], isolate: bool, batch_timeout: float | None,
    cluster: ClusterOptions | None, output: Path, memory: Memory, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Classify images with an offline model.

    Predictions are in input order, one row per image; what could not be read is a row with its reason. Killed or stopped,
    the same command goes on where it was; where images have changed since, only their batches are done again.
    """
    from ..engines.session import BATCH_TIMEOUT_S, Isolation, SessionOptions
    from ..history import record
    from ..host import usable_cores
    from ..inference import infer
    from ..pipeline import PipelineOptions
    from ..report.rows import Table, devices_table, stages
    from ..work import InferOptions

    if batch_timeout and not isolate:
        raise click.UsageError(
            "--batch-timeout goes with --isolate: only a process of its own can be ended when it hangs"
        )
    isolation = Isolation(batch_timeout=batch_timeout or BATCH_TIMEOUT_S) if isolate else None
    options = InferOptions(
        limit=limit,
        session=SessionOptions(streams=streams, threads=threads, devices=devices, isolation=isolation),
        pipeline=PipelineOptions(
            decoders=decoders or usable_cores(), count_bad_images=on_bad_image == "count", keep_scores=scores
        ),
        preprocessing=preprocessing,
        decoding=decoding,
    )
    if cluster is not None and decoding != "cpu":
        raise click.UsageError("--decode nvjpeg is for --on here: the actors of a cluster decode on their processors")
    if cluster is not None:
        cluster = replace(cluster, decoders=decoders)
    with progress() as update:
        existing: Existing = "replace" if force else "refuse"
        result = infer(
            model, images, output, labels=labels, options=options, cluster=cluster, existing=existing, progress=update
        )
    memory.keep(lambda: [record.of_infer(result, output, record.subject_of(model), memory.started)])
    rows = [
        ("images", f"{result.images:,}, {result.failures:,} could not be classified" + _kept(result)),
        ("end to end", f"{result.e2e.throughput:,.1f} img/s in {result.e2e.wall_s:.2f} s"),
        ("interface", f"{result.interface.throughput:,.1f} img/s while the engine was executing"),
        ("limited by", _limit(result)),
        *([("cluster", result.cluster)] if result.cluster else []),
        *([("preprocessing", _fast(result.fast_check, options.inexact))] if options.inexact else []),
        ("predictions", str(output)),
    ]
    bad = Table(
        "Images that could not be classified", ("image", "reason"), [(b.key, b.reason) for b in result.bad_images[:20]]
    )
    summary = Table(f"{result.name}, runs in {result.executed_precision}, batch {result.batch_size}", ("", ""), rows)
    tables = summary, stages(result, "Stages"), devices_table(result), bad if bad.rows else None
    emit(result.jsonable(), as_json, *tables)


def _limit(result: InferResult) -> str:
    stage, freed = result.limiting_stage, result.without(result.limiting_stage.name)
    forecast = f"; if it cost nothing, end to end would be about {freed:,.0f} img/s" if freed else ""
    return f"{stage.name}, {stage.busy_share:.0%} busy{forecast}"


def _kept(result: InferResult) -> str:
    return f"; {result.kept:,} were done by an earlier run" if result.kept else ""


def _fast(check: FastCheck | None, flags: str) -> str:
    how = flags.replace("--preprocess ", "").replace("--decode nvjpeg", "JPEG decoded by nvJPEG")
    if check is None:
        return f"{how}; there was no image to hold against the exact path"
    return (
        f"{how}: against the exact path, on {check.images:,} images, pixels differ by at most {check.largest_difference} of 255 "
        f"({check.differing_share:.2%} of them differ), {check.changed:,} decisions changed"
    )
