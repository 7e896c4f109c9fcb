"""`modelport diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .shared import (
    IMAGES,
    IMAGES_HELP,
    PATH,
    emit,
    force_option,
    json_option,
    preprocess_options,
    progress,
    read_preprocess,
)

if TYPE_CHECKING:
    from ..comparison.fix import FixOptions
    from ..exporter.export import ExportOptions

NOT_FIXED = 3
HTML_FILE = "diff.html"


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--images", type=IMAGES, help=f"{IMAGES_HELP} Random noise if left out.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=16, show_default=True, help="Only the first N images for the layers."
)
@click.option("--onnx", type=PATH, multiple=True, help="ONNX file of an offline model or an engine. Repeatable.")
@click.option(
    "--all",
    "whole",
    is_flag=True,
    help="Every layer, and each operator's own error; else only the first that falls out.",
)
@click.option(
    "--max-taps", type=click.IntRange(min=2), default=8, show_default=True, help="Most tensors to look at in one run."
)
@click.option("--arch", help="A checkpoint's architecture, as timm names it; --recipe says it too.")
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@click.option(
    "--fix", is_flag=True, help="int8: keep as few of the worst operators in floating point as hold --max-drop."
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0, max=100),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="--fix: largest drop of top-1 on all images; without labels, largest % of changed decisions.",
)
@click.option("--labels", type=PATH, help="--fix: label file of the images.")
@click.option(
    "--calibration", type=IMAGES, metavar="DIR", help="--fix: images to calibrate with, not those of --images."
)
@click.option(
    "--calibration-samples", "samples", type=click.IntRange(min=10), help="--fix: how many; as B was if left out."
)
@preprocess_options
@click.option("-o", "--output", type=PATH, help="Directory for diff.json, diff.csv, diff.html and the fixed file.")
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str,
    images: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Compare two stages of a model layer by layer, and find the first operator that falls out.

    A, the reference, and B are each an ONNX file (run as it is, in f32), an offline model, ENGINE:PRECISION (such as
    openvino:bf16: the other side's file in that engine), emulation:fp16, or a checkpoint. An offline model's ONNX file is
    looked for beside it, or given with --onnx. Exit code 3 says that --fix found nothing that holds the floor.
    """
    from ..comparison.compare import DiffOptions, diff
    from ..files import write_text
    from ..report.diff import diff_verdict, fix_table, fix_verdict, layers_table, render_diff_html, sides_table

    fix = _fix(more, images, output)
    options = DiffOptions(
        onnx=more["onnx"],
        limit=more["limit"],
        whole=more["whole"],
        max_taps=more["max_taps"],
        preprocess=read_preprocess(more, None),
        num_classes=more["num_classes"],
        export=_export(more),
    )
    with progress() as update:
        result = diff(a, b, images, output=output, options=options, fix=fix, force=force, progress=update)
    if output is not None:
        write_text(output / HTML_FILE, render_diff_html(result))
    emit(result.jsonable(), as_json, sides_table(result), layers_table(result), fix_table(result))
    if not as_json:
        click.echo(f"\n{diff_verdict(result)}")
        if result.fix is not None:
            click.echo(fix_verdict(result.fix))
        if output is not None:
            click.echo(f"Report: {output / HTML_FILE}")
    if result.fix is not None and not result.fix.passed:
        ctx.exit(NOT_FIXED)


def _fix(flags: dict[str, Any], images: Path | None, output: Path | None) -> FixOptions | None:
    from ..comparison.fix import FixOptions

    if not flags["fix"]:
        if given := [name for name in ("labels", "calibration", "samples") if flags[name] is not None]:
            option = {"samples": "calibration-samples"}.get(given[0], given[0])
            raise click.UsageError(f"--{option} is for --fix.")
        return None
    missing = [
        option
        for option, value in (("--images", images), ("--calibration", flags["calibration"]), ("-o", output))
        if value is None
    ]
    if missing:
        raise click.UsageError(f"--fix needs {' and '.join(missing)}.")
    return FixOptions(
        calibration=flags["calibration"], labels=flags["labels"], max_drop=flags["max_drop"], samples=flags["samples"]
    )


def _export(flags: dict[str, Any]) -> ExportOptions | None:
    """What the checkpoint is of, from --arch or the recipe."""
    from ..exporter.export import ExportOptions

    arch, classes, pins = flags["arch"], flags["num_classes"], {}
    if arch is None and flags["recipe"] is not None:
        from ..recipe import Recipe

        model = Recipe.load(flags["recipe"]).model
        arch, classes, pins = model.arch, classes or model.num_classes, model.pins
    return ExportOptions(arch=arch, num_classes=classes, pins=pins) if arch is not None else None
