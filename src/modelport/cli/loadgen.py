"""`modelport loadgen`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .shared import IMAGES, IMAGES_HELP, PATH, emit, force_option, json_option, progress, session_options

_INVALID = 3


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--scenario",
    type=click.Choice(["Offline", "SingleStream", "MultiStream", "Server"]),
    required=True,
    help="All images at once; one, or eight, after the other; or queries that come by chance.",
)
@click.option("--images", type=IMAGES, required=True, help=IMAGES_HELP)
@click.option("--labels", type=PATH, help="With --accuracy: label file, `name class` per line.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option("--accuracy", is_flag=True, help="Each image once, for TopN; nothing is said of speed.")
@click.option("--quick", is_flag=True, help="Seconds instead of ten minutes. Unofficial, and marked so.")
@click.option(
    "--target-qps",
    type=click.FloatRange(min=0, min_open=True),
    metavar="RATE",
    help="Server: queries a second. Offline: images a second to expect; measured if left out.",
)
@click.option(
    "--target-latency",
    type=click.IntRange(min=1),
    metavar="MS",
    help="Server: the bound, instead of MLPerf's 15 ms.",
)
@session_options
@click.option("-o", "--output", type=PATH, required=True, help="Directory for LoadGen's logs and loadgen.json.")
@force_option
@json_option
def command(
    model: Path, scenario: str, images: Path | str, labels: Path | None, output: Path, force: bool, as_json: bool,
    **more: Any,
) -> None:  # fmt: skip
    """Have MLCommons' LoadGen drive an offline model.

    Its settings are those of MLPerf's image classification (resnet50): at least ten minutes. Images are prepared and in
    memory before its clock starts. Exit code 3 where it says INVALID, with the reasons; its logs are kept.
    """
    from ..engines.session import SessionOptions
    from ..mlperf.run import loadgen
    from ..mlperf.settings import LoadGenOptions
    from ..report.loadgen import loadgen_tables

    qps, latency = more["target_qps"], more["target_latency"]
    if scenario == "Server" and qps is None:
        raise click.UsageError("--scenario Server needs --target-qps, the queries a second that are to be answered")
    if scenario not in ("Server", "Offline") and qps is not None:
        raise click.UsageError(f"--target-qps is for Server and Offline, not for {scenario}")
    if scenario != "Server" and latency is not None:
        raise click.UsageError(f"--target-latency is for Server, not for {scenario}")
    if labels is not None and not more["accuracy"]:
        raise click.UsageError("--labels goes with --accuracy")
    options = LoadGenOptions(
        scenario=scenario,  # type: ignore[arg-type]
        accuracy=more["accuracy"],
        quick=more["quick"],
        target_qps=qps,
        target_latency_ms=latency,
        limit=more["limit"],
        session=SessionOptions(streams=more["streams"], threads=more["threads"], devices=more["devices"]),
    )
    with progress() as update:
        result = loadgen(model, images, output, options=options, labels=labels, force=force, progress=update)
    emit(result.jsonable(), as_json, *loadgen_tables(result))
    if result.valid is False:
        sys.exit(_INVALID)
