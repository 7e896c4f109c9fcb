"""`modelport doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .shared import PATH, console, emit, json_option


@click.command()
@click.option("--disk", type=PATH, metavar="DIR", help="Measure this directory's disk, not that of temporary files.")
@click.option("--check", is_flag=True, help="Exit 1 where there is an error, for scripts; warnings and notes pass.")
@json_option
def command(disk: Path | None, check: bool, as_json: bool) -> None:
    """Say what runs here, and what mends the rest.

    Each engine compiles and runs a tiny network, so that the precision is told in which it really executes. Besides:
    arithmetic of the processor, limits of containers, clock, memory, disk, devices, busy processes, telemetry.
    """
    from ..measure.doctor import examine
    from ..report.diagnosis import diagnosis_tables, show_problems

    found = examine(disk)
    emit(found.jsonable(), as_json, *diagnosis_tables(found))
    if not as_json:
        show_problems(console(), found)
    if check and any(problem.level == "error" for problem in found.problems):
        sys.exit(1)
