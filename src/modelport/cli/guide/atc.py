"""`modelport guide atc`: chapter 3.2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ..shared import PATH, PRECISIONS

ENGINE_VARIABLE, PRECISION_VARIABLE = "MODELPORT_ENGINE", "MODELPORT_PRECISION"


@click.command()
@click.option("--framework", type=click.Choice(["5"]), required=True, help="5 is ONNX.")
@click.option("--model", type=PATH, required=True, help="ONNX file.")
@click.option("--input_format", type=click.Choice(["NCHW"]), default="NCHW", help="Layout of the input.")
@click.option("--input_shape", metavar="NAME:N,C,H,W", required=True, help="The input's name and its static shape.")
@click.option("--output", type=PATH, required=True, help="The offline model is OUTPUT.om.")
@click.option(
    "--log",
    "log_level",
    type=click.Choice(["debug", "info", "warning", "error", "null"]),
    default="null",
    help="Passed on to a real atc.",
)
@click.option("--soc_version", required=True, help="Such as Ascend310; only the engine ascend can meet it.")
@click.option("--engine", envvar=ENGINE_VARIABLE, default="openvino", show_default=True, help=f"Or {ENGINE_VARIABLE}.")
@click.option(
    "--precision",
    envvar=PRECISION_VARIABLE,
    type=click.Choice(PRECISIONS),
    help=f"Or {PRECISION_VARIABLE}; the engine's first if left out.",
)
def command(engine: str, precision: str | None, framework: str, input_format: str, **flags: Any) -> None:
    """Chapter 3.2: compile an ONNX file into an offline model OUTPUT.om with atc's own flags.

    Without an Ascend toolkit it is compiled for another engine (--engine, or the environment variable MODELPORT_ENGINE); which
    one is said on stderr. With --engine ascend the real atc does it.
    """
    from ...guide.atc import AtcFlags, compile_like_atc

    if engine == "ascend":
        _leave_path()
    click.echo("ATC start working now, please wait for a moment.")
    offline = compile_like_atc(AtcFlags(**flags), engine=engine, precision=precision)
    manifest = offline.manifest
    if engine != "ascend":
        click.echo(
            f"modelport: {offline.path} runs on {manifest.engine.name} {manifest.engine.version} in {manifest.precision.executed}, "
            f"not on {flags['soc_version']} ({ENGINE_VARIABLE}={os.environ.get(ENGINE_VARIABLE, engine)})",
            err=True,
        )
    click.echo("ATC run success, welcome to the next use.")


def _leave_path() -> None:
    """Take this script's folder off PATH, so that the engine finds the real atc and not the script of that name."""
    ours = Path(sys.argv[0]).resolve()
    folders = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder, "atc").resolve() != ours)
