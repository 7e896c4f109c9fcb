"""`modelport tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .remember import Memory, history_options
from .shared import IMAGES, IMAGES_HELP, PATH, emit, force_option, json_option, progress
from .space import read_model_flags, read_settings, read_space, space_options

if TYPE_CHECKING:
    from ..results import Goal

NOTHING_FOUND = 3
HTML_FILE = "tune.html"


def _goal(_: click.Context, parameter: click.Parameter, value: str) -> Goal:
    from ..measure.choose import parse_goal

    try:
        return parse_goal(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@click.command()
@click.argument("onnx", type=PATH)
@click.option("--images", type=IMAGES, required=True, help=IMAGES_HELP)
@click.option(
    "--labels", type=PATH, help="Label file, `name class` per line; without labels, decisions are compared with f32."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option(
    "--goal",
    callback=_goal,
    default="throughput",
    show_default=True,
    metavar="GOAL",
    help="throughput, or latency:MS: the most throughput with a p90 latency of MS milliseconds or less.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0, max=100),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Largest drop of top-1 and top-5 against f32; without labels, largest % of changed decisions.",
)
@click.option(
    "--accuracy-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    metavar="S",
    help="Until a run over the images is ended.",
)
@space_options
@click.option("-o", "--output", type=PATH, required=True, help="Directory for tuned.yaml, tune.html and the sweep.")
@history_options
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, onnx: Path, images: Path, labels: Path | None, limit: int | None, goal: Goal, max_drop: float,
    accuracy_timeout: float, output: Path, memory: Memory, force: bool, as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Find the best configuration for a goal that keeps the model's accuracy.

    Sweeps, measures the accuracy of what could win, and writes the winner as a recipe: `modelport run DIR/tuned.yaml`. An
    earlier sweep in the same directory is taken up. Exit code 3 says that nothing meets goal and floor.
    """
    from ..files import write_text
    from ..history import record
    from ..measure.tune import RECIPE_FILE, TuneOptions, tune
    from ..report.search import accuracy_table, front_table, render_tune_html, tune_verdict

    options = TuneOptions(
        goal=goal,
        max_drop_points=max_drop,
        labels=labels,
        limit=limit,
        accuracy_timeout_s=accuracy_timeout,
        sweep=read_settings(flags),
        **read_model_flags(onnx, flags),
    )
    with progress() as update:
        result = tune(onnx, images, output, read_space(flags), options=options, force=force, progress=update)
    write_text(output / HTML_FILE, render_tune_html(result))
    memory.keep(lambda: [record.of_tune(result, output, memory.started)])
    emit(result.jsonable(), as_json, front_table(result), accuracy_table(result))
    if not as_json:
        click.echo(f"\n{tune_verdict(result)}\nReport: {output / HTML_FILE}")
    if result.winner is None:
        ctx.exit(NOTHING_FOUND)
    if not as_json:
        click.echo(f"Recipe: {output / RECIPE_FILE}")
