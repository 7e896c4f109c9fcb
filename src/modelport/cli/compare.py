"""`modelport compare`."""

from __future__ import annotations

from pathlib import Path

import click

from .remember import history_option
from .shared import emit, json_option

across_option = click.option(
    "--across-environments", is_flag=True, help="Compare runs of unlike machines and software all the same."
)


def fraction(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A percentage such as 5% or 5, as a fraction."""
    if value is None:
        return None
    try:
        found = float(value.removesuffix("%")) / 100
    except ValueError:
        found = -1.0
    if not 0 <= found < 100:
        raise click.BadParameter(f"{value!r}: expected a percentage of 0 or more, such as 5%", param=parameter)
    return found


noise_option = click.option(
    "--noise",
    callback=fraction,
    metavar="PERCENT",
    help="Standard deviation of a median latency from run to run; left out, learnt from the history, or 1.5%.",
)


@click.command()
@click.argument("a")
@click.argument("b")
@across_option
@noise_option
@history_option
@json_option
def command(
    a: str, b: str, across_environments: bool, noise: float | None, history: Path | None, as_json: bool
) -> None:
    """Say whether accuracy and speed changed beyond noise from A to B.

    Each is an entry of the history (the beginning of its id, `latest`, `latest~1`), or a file or directory that run, bench
    --json, infer, sweep or tune wrote. docs/history.md says how it is decided.
    """
    show_comparison(a, b, history=history, across=across_environments, noise=noise, as_json=as_json)


def show_comparison(a: str, b: str, *, history: Path | None, across: bool, noise: float | None, as_json: bool) -> None:
    """Compare, and print."""
    from ..history.compare import CompareOptions, compare
    from ..history.place import place
    from ..report.history import comparison_tables, comparison_verdict

    options = CompareOptions(across_environments=across, noise=noise, history=place(history))
    found = compare(a, b, options=options)
    emit(found.jsonable(), as_json, *(table for table in comparison_tables(found) if table.rows))
    if not as_json:
        click.echo(f"\n{comparison_verdict(found)}")
