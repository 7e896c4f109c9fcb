"""`modelport sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .remember import Memory, history_options
from .shared import PATH, emit, force_option, json_option, progress
from .space import read_model_flags, read_settings, read_space, space_options


@click.command()
@click.argument("onnx", type=PATH)
@space_options
@click.option("-o", "--output", type=PATH, required=True, help="Directory for trials.jsonl, models/ and sweep.json.")
@click.option("--json-lines", is_flag=True, help="Print each new trial as one line of JSON as it ends, and no table.")
@history_options
@force_option
@json_option
def command(
    onnx: Path, output: Path, json_lines: bool, memory: Memory, force: bool, as_json: bool, **flags: Any
) -> None:
    """Measure every combination of engines, precisions, batch sizes, streams and threads.

    Each trial runs in a process of its own: one that crashes or hangs is recorded, and the sweep goes on. Run it again
    and only what is not recorded is done; --force starts anew.
    """
    from ..errors import InferenceError
    from ..history import record
    from ..measure.sweep import sweep
    from ..report.search import sweep_table
    from ..results import Trial

    if json_lines and as_json:
        raise click.UsageError("--json and --json-lines exclude each other.")

    def show(trial: Trial) -> None:
        if json_lines:
            click.echo(trial.model_dump_json())

    what = read_model_flags(onnx, flags)
    with progress() as update:
        result = sweep(
            onnx, output, read_space(flags), settings=read_settings(flags), **what, force=force, on_trial=show,
            progress=update,
        )  # fmt: skip
    if result.ran:
        memory.keep(lambda: [record.of_sweep(result, output, memory.started)])
    if not json_lines:
        emit(result.jsonable(), as_json, sweep_table(result))
    if not result.ran:
        first = result.configurations[0]
        raise InferenceError(
            f"{onnx}: none of the {len(result.configurations)} configurations ran; the first, {first.configuration.text}: "
            f"{first.outcome}: {first.reason}"
        )
