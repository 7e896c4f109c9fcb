"""`modelport compile`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .shared import (
    CLASS_NAMES_HELP,
    IMAGES,
    PATH,
    PRECISIONS,
    emit,
    force_option,
    json_option,
    preprocess_options,
    read_preprocess,
)
from .weights import read_weights, weights_options

if TYPE_CHECKING:
    from ..calibration import Calibration
    from ..engines.base import Plan
    from ..exporter.program import TorchWeights

LOGS = ("debug", "info", "warning", "error", "null")


@click.command()
@click.argument("onnx", type=PATH)
@click.option(
    "--engine",
    required=True,
    help="openvino, onnxruntime, inductor, ascend or null; `modelport doctor` says what runs here.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Arithmetic; never another one silently. f32 if left out, fp16 for ascend.",
)
@click.option(
    "--calibration", type=IMAGES, metavar="DIR", help="int8: images to calibrate with, not those of evaluation."
)
@click.option(
    "--calibration-samples",
    "samples",
    type=click.IntRange(min=10),
    default=300,
    show_default=True,
    help="int8: how many, at random.",
)
@click.option(
    "--preset",
    "scheme",
    type=click.Choice(["mixed", "performance"]),
    default="mixed",
    show_default=True,
    help="int8: asymmetric activations, or all symmetric.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0, max=100),
    metavar="POINTS",
    help="int8: largest drop of top-1, on labelled images that calibrate nothing.",
)
@click.option("--calibration-labels", type=PATH, help="int8: label file of those images, for --max-drop.")
@click.option(
    "--keep-float",
    multiple=True,
    metavar="NAME",
    help="int8: leave this operator in floating point; `modelport diff` names them. Repeatable.",
)
@click.option("--keep-quantized", type=PATH, metavar="FILE", help="int8: keep the quantised ONNX file (QDQ) here.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Fixed batch size.")
@click.option(
    "--input",
    "input_dtype",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="uint8: take pixels, N x height x width x channels; the model normalises them itself.",
)
@click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say.")
@click.option("--class-names", type=PATH, help=CLASS_NAMES_HELP)
@click.option("--soc-version", metavar="CHIP", help="ascend: the chip, such as Ascend310; asked of it if left out.")
@click.option("--aipp", is_flag=True, help="ascend: take uint8 pixels; the chip subtracts the mean and divides.")
@click.option(
    "--atc-log", type=click.Choice(LOGS), default="error", show_default=True, help="ascend: level of atc's log."
)
@weights_options
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "tensorrt"]),
    help="What to compile for. inductor: cpu or cuda, cuda where there is one. onnxruntime: its provider, cpu if left out.",
)
@click.option("--tf32", is_flag=True, help="inductor: let float32 products round their inputs to TF32 on a GPU.")
@click.option(
    "--autotune",
    is_flag=True,
    help="inductor: measure the compiler's options here and keep the fastest; takes minutes.",
)
@click.option("--dry-run", is_flag=True, help="ascend: print the command and its files; run and write nothing.")
@preprocess_options
@click.option("-o", "--output", type=PATH, help="Offline model: a directory to make.")
@force_option
@json_option
def command(
    onnx: Path, engine: str, precision: str | None, batch_size: int, soc_version: str | None, aipp: bool, atc_log: str,
    class_names: Path | None, dry_run: bool, output: Path | None, force: bool, as_json: bool, **more: Any,
) -> None:  # fmt: skip
    """Compile an ONNX classifier into an offline model.

    Any ONNX file with one image input (N x channels x height x width) and one N x classes output will do. Without
    modelport's metadata, say how its images are prepared.
    """
    from ..data.class_names import read_class_names
    from ..engines import load
    from ..engines.base import CompileOptions
    from ..engines.compiler import compile_model, plan_compile
    from ..graph import read_classifier
    from ..report.rows import Table
    from ..spec import Precision

    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o' / '--output'.")
    weights = read_weights(more)
    what: dict[str, Any] = {
        "engine": engine,
        "options": CompileOptions(
            precision=Precision(precision) if precision else load(engine).precisions[0],
            batch_size=batch_size,
            soc_version=soc_version,
            aipp=aipp,
            log=atc_log,
            input_dtype=more.pop("input_dtype"),
            device=more.pop("device"),
            tf32=more.pop("tf32"),
            autotune=more.pop("autotune"),
        ),
        "num_classes": more.pop("num_classes"),
        "preprocess": read_preprocess(more, read_classifier(onnx).default_preprocess),
    }
    if dry_run:
        _show_plan(plan_compile(onnx, **what), engine, as_json)
        return
    names = read_class_names(class_names) if class_names else None
    with _program(onnx, what, weights), _quantized(onnx, what, more | {"output": output}, force) as source:
        model = compile_model(source, output, **what, class_names=names, force=force)
    manifest = model.manifest
    rows = [
        ("offline model", str(model.path)),
        ("engine", f"{manifest.engine.name} {manifest.engine.version}"),
        ("precision", f"{manifest.precision.executed} really runs, {manifest.precision.requested} asked for"),
        *([("the rest", str(rest))] if (rest := manifest.precision.rest) else []),
        *([("calibration", _calibration(found))] if (found := manifest.calibration) else []),
        *([("GPU", f"{gpu.architecture}, {gpu.name}, driver {gpu.driver}")] if (gpu := manifest.gpu) else []),
        *([("options", _settings(manifest.settings))] if manifest.settings else []),
        ("input", f"{manifest.input.name} {manifest.input.dtype} {'x'.join(map(str, manifest.input.shape))} {manifest.input.layout}"),
    ]  # fmt: skip
    emit({"output": str(model.path), **manifest.jsonable()}, as_json, Table("Compiled", ("", ""), rows))


@contextmanager
def _program(onnx: Path, what: dict[str, Any], weights: TorchWeights | None) -> Iterator[None]:
    """Meanwhile the options name the network's program, for an engine that compiles that; refused before hours of work."""
    from ..engines import load
    from ..graph import read_classifier

    engine = load(what["engine"])
    if weights is None or not engine.from_program:
        if weights is not None:
            raise click.UsageError(
                f"--checkpoint and --random-weights are for inductor; {engine.name} compiles the ONNX file."
            )
        yield
        return
    from ..exporter.program import with_program

    engine.version()
    options = engine.resolve(what["options"])
    spec = read_classifier(onnx).resolve_spec(what["preprocess"], what["num_classes"])
    with with_program(options, weights, spec, onnx) as found:
        what["options"] = found
        yield


def _settings(settings: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'on' if on else 'off'}" for name, on in settings.items())


@contextmanager
def _quantized(onnx: Path, what: dict[str, Any], flags: dict[str, Any], force: bool) -> Iterator[Path]:
    """The file to compile: for int8 a quantised one, which goes again unless it is to be kept."""
    from ..engines import load
    from ..files import refuse_existing
    from ..graph.quantized import is_quantized
    from ..quantize import QuantizeOptions, quantize
    from ..spec import Precision

    images, keep = flags["calibration"], flags["keep_quantized"]
    if what["options"].precision is not Precision.INT8:
        if given := [
            name
            for name in ("calibration", "max_drop", "keep_quantized", "keep_float")
            if flags[name] not in (None, ())
        ]:
            raise click.UsageError(f"--{given[0].replace('_', '-')} is for --precision int8.")
        yield onnx
        return
    engine = load(what["engine"])
    engine.resolve(what["options"])
    if images is None:
        if not is_quantized(onnx):
            raise click.UsageError("--precision int8 needs --calibration DIR, images that are not those of evaluation.")
        yield onnx
        return
    engine.version()
    refuse_existing(flags["output"], force=force)
    options = QuantizeOptions(
        tool=engine.quantizer,
        preset=flags["scheme"],
        samples=flags["samples"],
        max_drop=flags["max_drop"],
        labels=flags["calibration_labels"],
        keep_float=flags["keep_float"],
    )
    with TemporaryDirectory() as folder:
        path = keep or Path(folder) / f"{onnx.stem}-int8.onnx"
        more = {key: what[key] for key in ("preprocess", "num_classes")}
        quantize(onnx, images, path, options=options, force=force, **more)
        yield path


def _calibration(found: Calibration) -> str:
    text = f"{found.images} images of {found.source} ({found.digest[:12]}…), {found.preset}, {found.tool}"
    if found.drop is not None:
        text += f"; top-1 drops by {found.drop:.2f} points on {found.control_images} control images"
    return text


def _show_plan(plan: Plan | None, engine: str, as_json: bool) -> None:
    if plan is None:
        raise click.UsageError(
            f"--dry-run prints a compiler's command, and {engine} compiles by none; it is for ascend."
        )
    line = shlex.join(plan.command)
    emit({"command": line, "arguments": plan.command, "files": plan.files}, as_json)
    if not as_json:
        click.echo("".join([f"{line}\n", *(f"\n# {name}\n{text}" for name, text in plan.files.items())]), nl=False)
