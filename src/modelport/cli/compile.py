"""`modelport compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .shared import PATH, PRECISIONS, emit, force_option, json_option, preprocess_options, read_preprocess


@click.command()
@click.argument("onnx", type=PATH)
@click.option("--engine", required=True, help="openvino, onnxruntime or null; `modelport doctor` says what runs here.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="f32",
    show_default=True,
    help="Arithmetic; never another one silently.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Fixed batch size.")
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@preprocess_options
@click.option("-o", "--output", type=PATH, required=True, help="Offline model: a directory to make.")
@force_option
@json_option
def command(
    onnx: Path, engine: str, precision: str, batch_size: int, output: Path, force: bool, as_json: bool, **more: Any
) -> None:
    """Compile an ONNX classifier into an offline model.

    Any ONNX file with one image input (N x channels x height x width) and one N x classes output will do. Without
    modelport's metadata, say how its images are prepared.
    """
    from ..engines.base import CompileOptions
    from ..engines.compiler import compile_model
    from ..graph import read_classifier
    from ..report.rows import Table
    from ..spec import Precision

    classes = more.pop("num_classes")
    model = compile_model(
        onnx,
        output,
        engine=engine,
        options=CompileOptions(precision=Precision(precision), batch_size=batch_size),
        preprocess=read_preprocess(more, read_classifier(onnx).default_preprocess),
        num_classes=classes,
        force=force,
    )
    manifest = model.manifest
    rows = [
        ("offline model", str(model.path)),
        ("engine", f"{manifest.engine.name} {manifest.engine.version}"),
        ("precision", f"{manifest.precision.executed} really runs, {manifest.precision.requested} asked for"),
        ("input", f"{manifest.input.name} {manifest.input.dtype} {'x'.join(map(str, manifest.input.shape))} {manifest.input.layout}"),
    ]  # fmt: skip
    emit({"output": str(model.path), **manifest.jsonable()}, as_json, Table("Compiled", ("", ""), rows))
