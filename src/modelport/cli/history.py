"""`modelport history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .remember import history_option
from .shared import PATH, PRECISIONS, emit, force_option, json_option

if TYPE_CHECKING:
    from ..history.wanted import Wanted

KINDS = ("run", "bench", "infer", "evaluate", "sweep", "tune")


def _since(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from ..history.wanted import parse_since

    try:
        return value and parse_since(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def filter_options(command: Any) -> Any:
    """Which entries."""
    for option in reversed(
        (
            click.option("--model", metavar="TEXT", help="Part of the model's or the recipe's name."),
            click.option("--kind", type=click.Choice(KINDS), help="What was run."),
            click.option("--engine", metavar="NAME", help="Entries with figures of this engine."),
            click.option("--precision", type=click.Choice(PRECISIONS), help="… of this precision."),
            click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="… of this batch size."),
            click.option("--since", callback=_since, metavar="WHEN", help="A date (2026-11-26), or 12h, 7d, 2w ago."),
            click.option("--verdict", type=click.Choice(["passed", "failed", "none"]), help="Of the gates."),
            click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N."),
        )
    ):
        command = option(command)
    return command


def _wanted(flags: dict[str, Any]) -> Wanted:
    from ..history.wanted import Wanted

    return Wanted(**flags)


def history_file(given: Path | None) -> Path:
    """The history to read.

    Raises:
        UsageError: it is switched off.
    """
    from ..history.place import place

    found = place(given)
    if found is None:
        raise click.UsageError("MODELPORT_HISTORY=off switches the history off; give --history FILE.")
    return found


@click.group(invoke_without_command=True)
@filter_options
@click.option(
    "--html", type=PATH, metavar="FILE", help="Write the dashboard: one page with trends, filters and all entries."
)
@history_option
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, html: Path | None, history: Path | None, force: bool, as_json: bool, **flags: Any
) -> None:
    """List what was run, newest first; or show, compare, prune or export entries.

    `run`, bench, infer, evaluate, sweep and tune put their results there. An entry is named by the beginning of its id, by
    `latest`, or `latest~1` for the one before it.
    """
    if ctx.invoked_subcommand is not None:
        if stray := [name for name, value in {**flags, "html": html}.items() if value is not None]:
            raise click.UsageError(
                f"--{stray[0].replace('_', '-')} goes after {ctx.invoked_subcommand}, where it takes it."
            )
        return
    from ..history.store import open_history

    with open_history(history_file(history)) as found:
        rows = found.rows(_wanted(flags))
    if html is not None:
        from ..files import refuse_existing, write_text
        from ..report.dashboard import render_history_html

        refuse_existing(html, force=force, reuse_empty=False)
        write_text(html, render_history_html(rows))
    from ..report.history import entries_table

    emit([row.jsonable() for row in rows], as_json, entries_table(rows, str(found.path)))
    if html is not None and not as_json:
        click.echo(f"Dashboard: {html}")


def _given(ctx: click.Context, history: Path | None) -> Path | None:
    """--history before or after the subcommand."""
    return history or (ctx.parent.params["history"] if ctx.parent else None)


@command.command()
@click.argument("entry")
@history_option
@json_option
@click.pass_context
def show(ctx: click.Context, entry: str, history: Path | None, as_json: bool) -> None:
    """Show one entry. With --json it is all that the command found out, and a file that `compare` and `gate` take."""
    from ..history.store import open_history
    from ..report.history import entry_tables

    with open_history(history_file(_given(ctx, history))) as found:
        identity = found.resolve(entry)
        document, row = found.entry(identity), found.row(identity)
    emit(document.jsonable(), as_json, *(table for table in entry_tables(row) if table.rows))


@command.command()
@click.argument("entries", nargs=-1)
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="All but the newest N.")
@click.option("--before", callback=_since, metavar="WHEN", help="What is older: a date, or 12h, 7d, 2w ago.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@history_option
@json_option
@click.pass_context
def prune(
    ctx: click.Context, entries: tuple[str, ...], keep: int | None, before: str | None, dry_run: bool, history: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Forget ENTRIES, or those that --keep and --before say (both: what both say)."""
    from ..history.store import open_history
    from ..report.history import entries_table

    if bool(entries) == (keep is not None or before is not None):
        raise click.UsageError("Give either ENTRIES or --keep and --before.")
    with open_history(history_file(_given(ctx, history))) as found:
        named = {found.resolve(name) for name in entries}
        rows = found.rows()
        old = [row for row in rows[keep or 0 :] if before is None or row.started < before]
        going = [row for row in rows if row.id in named] if entries else old
        if not dry_run:
            found.remove(row.id for row in going)
    document = {
        "removed": [row.id for row in going],
        "dry_run": dry_run,
        "left": len(rows) - (0 if dry_run else len(going)),
    }
    emit(document, as_json, entries_table(going, str(found.path)))
    if not as_json:
        click.echo(
            "Nothing was removed (--dry-run)." if dry_run else f"Removed: {len(going):,}; left: {document['left']:,}."
        )


@command.command()
@filter_options
@click.option(
    "--mlflow", "uri", metavar="URI", required=True, help="MLflow's tracking server, or a directory or database URI."
)
@click.option("--experiment", default="modelport", show_default=True, help="The experiment that the runs go into.")
@history_option
@json_option
@click.pass_context
def export(ctx: click.Context, uri: str, experiment: str, history: Path | None, as_json: bool, **flags: Any) -> None:
    """Copy entries to MLflow, a run each; what is there already is passed over."""
    from ..history.mlflow import export_to_mlflow
    from ..history.store import open_history

    with open_history(history_file(_given(ctx, history))) as found:
        done = export_to_mlflow(found, _wanted(flags), uri=uri, experiment=experiment)
    emit(done.jsonable(), as_json)
    if not as_json:
        click.echo(
            f"Exported: {len(done.exported):,}; there already: {done.present:,}. Experiment {experiment!r} at {uri}."
        )


@command.command()
@click.argument("a")
@click.argument("b")
@click.option("--across-environments", is_flag=True, help="Compare runs of unlike machines and software all the same.")
@history_option
@json_option
@click.pass_context
def compare(ctx: click.Context, a: str, b: str, across_environments: bool, history: Path | None, as_json: bool) -> None:
    """Compare two entries; `modelport compare` is the same with more options."""
    from .compare import compared, show_comparison

    show_comparison(compared(a, b, _given(ctx, history), across=across_environments), as_json)
