"""`modelport optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .shared import (
    IMAGES,
    PATH,
    PRECISIONS,
    emit,
    force_option,
    json_option,
    preprocess_options,
    progress,
    read_preprocess,
)


def _passes(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    from ..graph.passes import require_known

    if value is None:
        return None
    names = tuple(part.strip() for part in value.split(","))
    try:
        require_known(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    return names


@click.command()
@click.argument("onnx", type=PATH)
@click.option(
    "--target",
    required=True,
    metavar="ENGINE",
    help="Engine that it is to be faster on; ascend applies passes by rule.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="That it is timed in; the engine's own if left out.")
@click.option("--batch-size", type=click.IntRange(min=1), help="The file's own where it is fixed, else 1.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores in all; the engine's choice if left out.")
@click.option(
    "--passes",
    callback=_passes,
    metavar="NAME,NAME…",
    help="Only these: fold_normalization, simplify, split_convolutions, sum_concat_convolution, merge_groups[:WIDTH].",
)
@click.option("--no-measure", is_flag=True, help="By rule: what adds no arithmetic, and what --passes names.")
@click.option(
    "--rounds",
    type=click.IntRange(min=6),
    default=12,
    show_default=True,
    help="Of interleaved timing per pass, four turns each.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=0.2,
    show_default=True,
    metavar="S",
    help="Least length of a turn.",
)
@click.option(
    "--min-gain",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="PERCENT",
    help="Smallest gain that is kept.",
)
@click.option("--images", type=IMAGES, help="Prove on these too, not only on noise: folder, .info list, or one image.")
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@preprocess_options
@click.option("-o", "--output", type=PATH, required=True, help="ONNX file; OUTPUT.optimization.json is put beside it.")
@click.option("--html", type=PATH, metavar="FILE", help="Write the decisions as a page, too.")
@force_option
@json_option
def command(
    onnx: Path, target: str, precision: str | None, batch_size: int | None, threads: int | None,
    passes: tuple[str, ...] | None, no_measure: bool, rounds: int, seconds: float, min_gain: float, images: Path | None,
    num_classes: int | None, output: Path, html: Path | None, force: bool, as_json: bool, **more: Any,
) -> None:  # fmt: skip
    """Rewrite a graph so that it runs faster on a target, and prove that it computes the same.

    Each rewrite is proven equal in float32, timed in turn with its predecessor, and kept only where it wins beyond noise.
    """
    from ..files import refuse_existing, write_text
    from ..graph import read_classifier
    from ..measure.optimize import OptimizeOptions, optimize, record_path
    from ..measure.paired import TurnOptions
    from ..report.optimization import decisions_table, operators_table, optimization_verdict, render_optimization_html
    from ..spec import Precision

    options = OptimizeOptions(
        target=target,
        precision=Precision(precision) if precision else None,
        batch_size=batch_size,
        passes=passes,
        measure=not no_measure,
        turns=TurnOptions(rounds=rounds, seconds=seconds, threads=threads),
        min_gain=min_gain / 100,
        images=images,
        preprocess=read_preprocess(more, read_classifier(onnx).default_preprocess),
        num_classes=num_classes,
    )
    if html is not None:
        refuse_existing(html, force=force, reuse_empty=False)
    with progress() as update:
        result = optimize(onnx, output, options=options, force=force, progress=update)
    if html is not None:
        write_text(html, render_optimization_html(result))
    emit(result.jsonable(), as_json, decisions_table(result), operators_table(result))
    if not as_json:
        click.echo(f"\n{optimization_verdict(result)}\nWritten: {output}, {record_path(output)}")
