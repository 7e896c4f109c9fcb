"""`modelport guide preprocess`: chapter 4.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..shared import PATH, preprocess_options, progress, read_preprocess


@click.command()
@click.argument("images", type=PATH)
@click.argument("output", type=PATH)
@preprocess_options
def command(images: Path, output: Path, **flags: Any) -> None:
    """Chapter 4.2: a folder of IMAGES to preprocessed NAME.bin files in OUTPUT, float32, CHW.

    As the guide does it: shorter side to 256, centre crop 224, bilinear, ImageNet's mean and std; flags say otherwise.
    """
    from ...guide.model import PREPROCESS
    from ...guide.prepare import write_prepared

    with progress() as update:
        count = write_prepared(images, output, read_preprocess(flags, PREPROCESS) or PREPROCESS, update)
    click.echo(f"{output}: {count:,} images prepared")
