"""`modelport guide get-info`: chapter 4.3."""

from __future__ import annotations

from pathlib import Path

import click

from ..shared import PATH, progress


@click.command()
@click.argument("kind", type=click.Choice(["bin", "jpg"]))
@click.argument("directory", type=PATH)
@click.argument("output", type=PATH)
@click.argument("width", type=click.IntRange(min=1), required=False)
@click.argument("height", type=click.IntRange(min=1), required=False)
def command(kind: str, directory: Path, output: Path, width: int | None, height: int | None) -> None:
    """Chapter 4.3: list the inputs of DIRECTORY in an .info file: `bin DIR OUT WIDTH HEIGHT`, or `jpg DIR OUT`."""
    from ...guide.info import write_bin_info, write_jpg_info

    if kind == "jpg":
        with progress() as update:
            count = write_jpg_info(directory, output, update)
    elif width is None or height is None:
        raise click.UsageError("get-info bin needs WIDTH and HEIGHT after the output")
    else:
        count = write_bin_info(directory, output, width, height)
    click.echo(f"{output}: {count:,} inputs listed")
