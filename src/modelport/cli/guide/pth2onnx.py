"""`modelport guide pth2onnx`: chapter 3.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..shared import PATH, preprocess_options, read_preprocess


@click.command()
@click.argument("pth", type=PATH)
@click.argument("onnx", type=PATH)
@click.option("--arch", default="cspresnext50", show_default=True, help="timm's architecture name.")
@click.option("--opset", type=click.IntRange(min=7), default=11, show_default=True, help="ATC takes 11.")
@preprocess_options
def command(pth: Path, onnx: Path, arch: str, opset: int, **flags: Any) -> None:
    """Chapter 3.1: PTH weights to an ONNX file, input `image`, output `class`, dynamic batch.

    The number of classes is the checkpoint's own. Images are prepared as the guide does (224 px, crop 0.875, bilinear)
    unless flags say otherwise. Parity with PyTorch is proven.
    """
    from ...exporter import ExportOptions, export
    from ...exporter.checkpoint import classes_of
    from ...guide.model import PREPROCESS

    options = ExportOptions(
        arch=arch,
        checkpoint=pth,
        num_classes=classes_of(arch, pth),
        preprocess=read_preprocess(flags, PREPROCESS) or PREPROCESS,
        opset=opset,
    )
    result = export(options, onnx, force=True)
    parity = result.parity
    click.echo(f"{onnx}: opset {result.opset}, {result.spec.num_classes:,} classes, input image, output class")
    click.echo(f"parity with {parity.against}: max error {parity.max_abs_error:.2e}, cosine {parity.cosine:.7f}")
