"""`modelport pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from .shared import IMAGES, PATH, emit, force_option, json_option, preprocess_options, progress, read_preprocess


@click.command()
@click.argument("images", type=IMAGES)
@click.option("--labels", type=PATH, help="Label file, `name class` per line; the classes go into the shards.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["tar", "parquet"]),
    default="tar",
    show_default=True,
    help="WebDataset's tar, or Parquet as Hugging Face has it.",
)
@click.option(
    "--shard-images", type=click.IntRange(min=1), default=10_000, show_default=True, help="Images in a shard, at most."
)
@click.option(
    "--shard-bytes",
    type=click.IntRange(min=1),
    default=1 << 30,
    show_default=True,
    help="Begin a new shard after these.",
)
@click.option(
    "--pixels", is_flag=True, help="Keep resized and cropped pixels instead, for models with this preprocessing only."
)
@preprocess_options
@click.option("-o", "--output", type=PATH, required=True, help="Directory for the shards and their index.")
@force_option
@json_option
def command(
    images: Path | str, labels: Path | None, kind: Literal["tar", "parquet"], shard_images: int, shard_bytes: int,
    pixels: bool, output: Path, force: bool, as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Write IMAGES into shards with an index, which every command that takes images takes.

    Killed or stopped, the same command goes on with the shards that are complete. The same images make the same bytes.
    """
    from ..packing import PackOptions, pack
    from ..report.rows import Table

    preprocess = read_preprocess(flags, None)
    if pixels != (preprocess is not None):
        raise click.UsageError("--pixels goes with --recipe, --preprocess or --input-size, and these with --pixels.")
    options = PackOptions(kind=kind, shard_images=shard_images, shard_bytes=shard_bytes, pixels=preprocess)
    with progress() as update:
        index = pack(images, output, labels=labels, options=options, force=force, progress=update)
    rows = [
        ("images", f"{index.images:,}" + (f", as pixels (digest {index.pixels})" if index.pixels else "")),
        ("shards", f"{len(index.shards):,} {index.kind}, {sum(shard.bytes for shard in index.shards):,} bytes"),
        ("directory", str(output)),
    ]
    emit(index.jsonable(), as_json, Table("Packed", ("", ""), rows))
