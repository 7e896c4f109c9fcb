"""`modelport classify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .shared import CLASS_NAMES_HELP, IMAGES, PATH, console, emit, json_option, progress


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=IMAGES, nargs=-1, required=True, metavar="IMAGE…")
@click.option("--class-names", type=PATH, help=f"{CLASS_NAMES_HELP} The model's own if left out.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to tell of each image.")
@json_option
def command(model: Path, images: tuple[Path | str, ...], class_names: Path | None, top: int, as_json: bool) -> None:
    """Say what a model takes images for, class by class.

    MODEL is an offline model, or an ONNX file from `modelport export`, which is compiled for the moment. An IMAGE is a file, a folder, or
    whatever `infer` takes; `-` is one image on stdin. One that cannot be read is listed with the reason; exit code 1 where
    none could be.
    """
    from ..classification import STDIN, classify
    from ..data.class_names import read_class_names
    from ..errors import DataError
    from ..report.classification import show_classification

    given = [str(place) for place in images].count(STDIN)
    if given > 1:
        raise click.UsageError("`-` reads one image from stdin: give it once")
    if given and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("`-` reads an image from stdin, and there is none: pipe one into it, or name a file")
    names = read_class_names(class_names) if class_names else None
    with progress() as update:
        result = classify(model, images, top=top, class_names=names, progress=update)
    if as_json:
        emit(result.jsonable(), as_json)
    else:
        show_classification(console(), result)
    if result.failures == len(result.images):
        raise DataError(
            f"none of the {len(result.images):,} images could be classified, first: {result.images[0].error}"
        )
