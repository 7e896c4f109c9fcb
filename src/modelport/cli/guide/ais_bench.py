"""`modelport guide ais-bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..shared import PATH, device_numbers


def _plain_name(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and (text in ("", ".", "..") or Path(text).name != text):
        raise click.BadParameter(f"{text!r}: expected the name of one directory inside --output")
    return text


@click.command()
@click.option("-m", "--model", type=PATH, required=True, help="Offline model.")
@click.option("-i", "--input", help="Directory, or files with commas between: .npy or .bin; an image or a batch each.")
@click.option("-o", "--output", type=PATH, help="Where the directory of outputs and its summary go.")
@click.option("--output_dirname", callback=_plain_name, help="Name of that directory; the time if left out.")
@click.option(
    "--outfmt", type=click.Choice(["NPY", "BIN", "TXT"]), default="BIN", show_default=True, help="Of outputs."
)
@click.option("-l", "--loop", type=click.IntRange(min=1), default=1, show_default=True, help="Repetitions of a batch.")
@click.option(
    "--warmup_count", type=click.IntRange(min=0), default=1, show_default=True, help="Inferences before, not counted."
)
@click.option("-d", "--device", callback=device_numbers, default="0", show_default=True, help="Ids, such as 0,1.")
@click.option("--batchsize", type=click.IntRange(min=1), help="Checked against the model's.")
@click.option(
    "--pure_data_type",
    type=click.Choice(["zero", "random"]),
    default="zero",
    show_default=True,
    help="Data where there is no --input.",
)
@click.option(
    "--run_mode",
    type=click.Choice(["array", "files", "tensor", "full"]),
    default="array",
    show_default=True,
    help="tensor and full read all input first, array and files batch by batch.",
)
@click.option("--display_all_summary", type=bool, default=False, help="1: print the copies' latencies as well.")
@click.option("--debug", type=bool, default=False, help="1: log the model's inputs and outputs.")
def command(display_all_summary: bool, model: Path, **options: Any) -> None:
    """Run an offline model as ais_bench does, the benchmark tool's successor.

    Outputs are OUTPUT/DIRNAME/STEM_0.bin, figures OUTPUT/DIRNAME_summary.json. Without --input: pure inference.
    """
    if options["output_dirname"] is not None and options["output"] is None:
        raise click.UsageError("--output_dirname names a directory inside --output; give that too")
    from ...guide.ais_bench.run import AisOptions, run

    result = run(model, AisOptions(**options, arguments=tuple(sys.argv)))
    if result.output is not None:
        click.echo(f"[INFO] output path:{result.output}")
    for line in result.lines(everything=display_all_summary):
        click.echo(line)
