"""`modelport run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .remember import Memory, history_options
from .shared import PATH, cluster_options, emit, force_option, json_option, progress

if TYPE_CHECKING:
    from ..cluster.connection import ClusterOptions

GATE_FAILED = 3


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, required=True, help="Directory for everything the job makes.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the recipe, such as performance.rounds=5.",
)
@cluster_options
@history_options
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    out: Path,
    limit: int | None,
    settings: tuple[str, ...],
    cluster: ClusterOptions | None,
    memory: Memory,
    force: bool,
    as_json: bool,
) -> None:
    """Do a recipe's whole job: export, compile, infer, evaluate, compare, measure, report.

    Run it again and only what changed is done again; --force starts anew. Exit code 3 says that a gate failed.
    """
    from ..history import record
    from ..job import run
    from ..recipe import parse_override
    from ..report import HTML_FILE, rows

    overrides = dict(parse_override(text) for text in settings)
    if limit is not None:
        overrides["data.limit"] = limit
    with progress() as update:
        result = run(recipe, out, overrides=overrides, cluster=cluster, force=force, progress=update)
    memory.keep(lambda: [record.of_run(result, out)])
    emit(result.jsonable(), as_json, rows.summary(result), rows.three_speeds(result), rows.gates(result))
    if not as_json:
        click.echo(f"\n{rows.verdict(result)}\nReport: {out / HTML_FILE}")
    if not result.passed:
        ctx.exit(GATE_FAILED)
