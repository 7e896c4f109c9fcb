"""`modelport compile`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .shared import PATH, PRECISIONS, emit, force_option, json_option, preprocess_options, read_preprocess

if TYPE_CHECKING:
    from ..engines.base import Plan

LOGS = ("debug", "info", "warning", "error", "null")


@click.command()
@click.argument("onnx", type=PATH)
@click.option(
    "--engine", required=True, help="openvino, onnxruntime, ascend or null; `modelport doctor` says what runs here."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Arithmetic; never another one silently. f32 if left out, fp16 for ascend.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Fixed batch size.")
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@click.option("--soc-version", metavar="CHIP", help="ascend: the chip, such as Ascend310; asked of it if left out.")
@click.option("--aipp", is_flag=True, help="ascend: take uint8 pixels; the chip subtracts the mean and divides.")
@click.option(
    "--atc-log", type=click.Choice(LOGS), default="error", show_default=True, help="ascend: level of atc's log."
)
@click.option("--dry-run", is_flag=True, help="ascend: print the command and its files; run and write nothing.")
@preprocess_options
@click.option("-o", "--output", type=PATH, help="Offline model: a directory to make.")
@force_option
@json_option
def command(
    onnx: Path, engine: str, precision: str | None, batch_size: int, soc_version: str | None, aipp: bool, atc_log: str,
    dry_run: bool, output: Path | None, force: bool, as_json: bool, **more: Any,
) -> None:  # fmt: skip
    """Compile an ONNX classifier into an offline model.

    Any ONNX file with one image input (N x channels x height x width) and one N x classes output will do. Without
    modelport's metadata, say how its images are prepared.
    """
    from ..engines import load
    from ..engines.base import CompileOptions
    from ..engines.compiler import compile_model, plan_compile
    from ..graph import read_classifier
    from ..report.rows import Table
    from ..spec import Precision

    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    what: dict[str, Any] = {
        "engine": engine,
        "options": CompileOptions(
            precision=Precision(precision) if precision else load(engine).precisions[0],
            batch_size=batch_size,
            soc_version=soc_version,
            aipp=aipp,
            log=atc_log,
        ),
        "num_classes": more.pop("num_classes"),
        "preprocess": read_preprocess(more, read_classifier(onnx).default_preprocess),
    }
    if dry_run:
        _show_plan(plan_compile(onnx, **what), engine, as_json)
        return
    model = compile_model(onnx, output, **what, force=force)
    manifest = model.manifest
    rows = [
        ("offline model", str(model.path)),
        ("engine", f"{manifest.engine.name} {manifest.engine.version}"),
        ("precision", f"{manifest.precision.executed} really runs, {manifest.precision.requested} asked for"),
        ("input", f"{manifest.input.name} {manifest.input.dtype} {'x'.join(map(str, manifest.input.shape))} {manifest.input.layout}"),
    ]  # fmt: skip
    emit({"output": str(model.path), **manifest.jsonable()}, as_json, Table("Compiled", ("", ""), rows))


def _show_plan(plan: Plan | None, engine: str, as_json: bool) -> None:
    if plan is None:
        raise click.UsageError(
            f"--dry-run prints a compiler's command, and {engine} compiles by none; it is for ascend."
        )
    line = shlex.join(plan.command)
    emit({"command": line, "arguments": plan.command, "files": plan.files}, as_json)
    if not as_json:
        click.echo("".join([f"{line}\n", *(f"\n# {name}\n{text}" for name, text in plan.files.items())]), nl=False)
