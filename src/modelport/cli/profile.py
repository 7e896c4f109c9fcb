"""`modelport profile`."""

from __future__ import annotations

from pathlib import Path

import click

from .shared import IMAGES, PATH, emit, force_option, json_option, progress

HTML_FILE = "profile.html"


@click.command()
@click.argument("path", type=PATH)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=50, show_default=True, help="Batches with counters, and without."
)
@click.option(
    "--warmup", type=click.IntRange(min=1), default=3, show_default=True, help="Before each block of them, not counted."
)
@click.option("--images", type=IMAGES, help="The first images here make the batch; random input if left out.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores in all; the engine's choice if left out.")
@click.option("--peaks/--no-peaks", default=True, help="Measure what the machine can do, for each operator's limit.")
@click.option(
    "--onnx", type=PATH, help="CSV files: the ONNX file that the model came from, for the names of its nodes."
)
@click.option(
    "--top", type=click.IntRange(min=1), default=15, show_default=True, help="Rows of the longer tables shown."
)
@click.option("-o", "--output", type=PATH, help="Directory for profile.html, .json, trace.json and msprof's CSV files.")
@force_option
@json_option
def command(
    path: Path, rounds: int, warmup: int, images: Path | None, threads: int | None, peaks: bool, onnx: Path | None,
    top: int, output: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time every operator of an offline model, and find what only moves data.

    PATH is an offline model of an engine with counters (openvino, onnxruntime), measured here; or an op_summary CSV file of
    Ascend's msprof, or a directory with some, analysed in the same way. trace.json opens in Perfetto (ui.perfetto.dev).
    """
    from ..files import write_text
    from ..measure.profile import ProfileOptions, profile
    from ..report.profile import profile_tables, profile_verdict, render_profile_html

    options = ProfileOptions(rounds=rounds, warmup=warmup, threads=threads, images=images, peaks=peaks, onnx=onnx)
    with progress() as update:
        result = profile(path, options=options, output=output, force=force, progress=update)
    if output is not None:
        write_text(output / HTML_FILE, render_profile_html(result))
    emit(result.jsonable(), as_json, *profile_tables(result, top))
    if not as_json:
        click.echo(f"\n{profile_verdict(result)}")
        if output is not None:
            click.echo(f"Report: {output / HTML_FILE}")
