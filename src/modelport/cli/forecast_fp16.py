"""`modelport forecast-fp16`."""

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
    from ..measure.fp16 import Fp16Forecast
    from ..report.rows import Table


@click.command()
@click.argument("onnx", type=PATH)
@click.option("--images", type=IMAGES, required=True, help=IMAGES_HELP)
@click.option(
    "--labels", type=PATH, help="Label file, `name class` per line; without labels, only decisions are compared."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option("--batch-size", type=click.IntRange(min=1), help="The file's own where it is fixed, else 8.")
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@preprocess_options
@click.option("-o", "--output", type=PATH, help="Directory for forecast.json and both runs' predictions.")
@force_option
@json_option
def command(
    onnx: Path, images: Path, labels: Path | None, limit: int | None, batch_size: int | None, num_classes: int | None,
    output: Path | None, force: bool, as_json: bool, **more: Any,
) -> None:  # fmt: skip
    """Forecast the accuracy on a device that computes in fp16, by emulation on the CPU.

    An Ascend 310 computes in fp16. ONNX Runtime runs the model as it is and with its weights and every operator's result
    rounded to fp16, on the same images. It is a forecast, not a device's figure.
    """
    from ..graph import read_classifier
    from ..measure.fp16 import ForecastOptions, forecast_fp16

    options = ForecastOptions(
        preprocess=read_preprocess(more, read_classifier(onnx).default_preprocess),
        num_classes=num_classes,
        limit=limit,
        batch_size=batch_size,
    )
    with progress() as update:
        result = forecast_fp16(
            onnx, images, labels=labels, output=output, options=options, force=force, progress=update
        )
    emit(result.jsonable(), as_json, _table(result))


def _table(result: Fp16Forecast) -> Table:
    from ..report.rows import Table, denominator, percent

    paired, parity, accuracy = result.paired, result.parity, result.accuracy_fp16
    rows = []
    if accuracy is not None and result.accuracy_f32 is not None:
        for n, (ours, theirs) in enumerate(zip(accuracy.topn, result.accuracy_f32.topn, strict=True), start=1):
            if n in (1, len(accuracy.topn)):
                drop = f"{(theirs - ours) * 100:+.2f} points dropped"
                rows.append((f"top-{n}", f"{percent(ours)}, {percent(theirs)} in f32: {drop}"))
        rows.append(("lost / gained", f"{paired.lost} / {paired.gained}, McNemar p {paired.p_value:.3g}"))
    rows.append(("changed decisions", f"{paired.changed:,} of {paired.images:,} images"))
    if parity is not None:
        share = f"{parity.relative_error:.1e} of the largest score"
        rows.append(("largest score error", f"{parity.max_abs_error:.2e}, {share}"))
    rows.append(("not finite in fp16", f"{result.non_finite:,} images"))
    if result.overflows:
        rows.append(("weights beyond fp16", ", ".join(result.overflows)))
    notes = [
        f"{result.nature[0].upper()}{result.nature[1:]}: {result.engine} {result.engine_version}, weights and every operator's "
        "result rounded to fp16."
    ]
    return Table("fp16 forecast", ("", ""), rows, notes=[*notes, denominator(accuracy)] if accuracy else notes)
