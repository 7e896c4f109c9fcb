"""`modelport export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .shared import CLASS_NAMES_HELP, PATH, emit, force_option, json_option, preprocess_options, read_preprocess


@click.command()
@click.option("--arch", required=True, help="timm's architecture name, such as cspresnext50.")
@click.option("--checkpoint", type=PATH, help="Trained weights: .pth, .pt or .safetensors, wrapped or plain.")
@click.option("--random-weights", is_flag=True, help="Random weights instead, where only speed is asked.")
@click.option("--num-classes", type=click.IntRange(min=1), help="Width of the output; timm's default if left out.")
@click.option(
    "--opset",
    type=click.IntRange(min=7),
    default=18,
    show_default=True,
    help="ONNX operator set; Ascend's ATC takes 11.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Fix the batch; dynamic if left out.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest score error, as a share of the largest score.",
)
@click.option("--class-names", type=PATH, help=CLASS_NAMES_HELP)
@click.option("--md5", help="Refuse a checkpoint with another md5.")
@click.option("--sha256", help="Refuse a checkpoint with another sha256.")
@preprocess_options
@click.option("-o", "--output", type=PATH, required=True, help="ONNX file to write.")
@force_option
@json_option
def command(
    arch: str, checkpoint: Path | None, random_weights: bool, output: Path, force: bool, as_json: bool, **more: Any
) -> None:
    """Export a timm checkpoint to ONNX and prove it against PyTorch.

    The file's input is `image`, its output `class`; it carries its preprocessing. The export fails where the file's scores
    differ from PyTorch's beyond the tolerance.
    """
    if (checkpoint is None) != random_weights:
        raise click.UsageError("give either --checkpoint FILE or --random-weights")
    from ..data.class_names import read_class_names
    from ..exporter import ExportOptions, export
    from ..exporter.checkpoint import build_network, default_preprocess
    from ..report.rows import Table

    size = more["input_size"]
    asked = {
        key: value
        for key, value in more.items()
        if key not in ("opset", "batch_size", "tolerance", "md5", "sha256", "num_classes", "class_names")
    }
    base = default_preprocess(build_network(arch, None, None))
    options = ExportOptions(
        arch=arch,
        checkpoint=checkpoint,
        num_classes=more["num_classes"],
        preprocess=read_preprocess(asked, base),
        input_size=size,
        opset=more["opset"],
        batch_size=more["batch_size"],
        tolerance=more["tolerance"],
        pins={name: more[name] for name in ("md5", "sha256") if more[name]},
        class_names=read_class_names(more["class_names"]) if more["class_names"] else None,
    )
    result = export(options, output, force=force)
    document = {
        "output": str(result.path),
        "opset": result.opset,
        "model": result.spec.jsonable(),
        "parity": result.parity.jsonable(),
        "warnings": list(result.warnings),
    }
    parity = result.parity
    rows = [
        ("file", f"{result.path}, opset {result.opset}"),
        ("model", f"{arch}, {result.spec.num_classes:,} classes, input {'x'.join(map(str, result.spec.preprocess.input_size))}"),
        ("parity", f"max error {parity.max_abs_error:.2e}, mean {parity.mean_abs_error:.2e}, cosine {parity.cosine:.7f}"),
        ("", f"same top-1 on {parity.top1_agreement:.0%} of {parity.samples} inputs, against {parity.against}"),
    ]  # fmt: skip
    emit(document, as_json, Table("Exported", ("", ""), rows))
