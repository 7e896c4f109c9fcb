"""`modelport compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..printable import printable
from .remember import history_option
from .shared import emit, json_option, progress

if TYPE_CHECKING:
    from ..results.comparison import Comparison

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


again_option = click.option(
    "--again",
    is_flag=True,
    help="Measure speed anew, the models of both in turn: for two `run` directories of this machine; some seconds a configuration.",
)


@click.command()
@click.argument("a")
@click.argument("b")
@across_option
@noise_option
@again_option
@history_option
@json_option
def command(
    a: str, b: str, across_environments: bool, noise: float | None, again: bool, history: Path | None, as_json: bool
) -> None:
    """Say whether accuracy and speed changed beyond noise from A to B.

    Each is an entry of the history (the beginning of its id, `latest`, `latest~1`), or a file or directory that run, bench
    --json, infer, sweep or tune wrote. docs/history.md says how it is decided.
    """
    show_comparison(compared(a, b, history, across=across_environments, noise=noise, again=again), as_json)


def compared(
    a: str, b: str, history: Path | None, *, across: bool, noise: float | None = None, again: bool = False
) -> Comparison:
    """Compare what two names stand for."""
    from ..history.compare import CompareOptions, compare_loaded
    from ..history.loading import load
    from ..history.place import place

    options = CompareOptions(across_environments=across, noise=noise, history=place(history))
    before, after = load(a, options.history), load(b, options.history)
    found = compare_loaded(before, after, options)
    if not again:
        return found
    from ..measure.again import measure_again

    with progress() as update:
        anew = {change.configuration: change for change in measure_again(before.entry, after.entry, progress=update)}
    return found.model_copy(update={"speed": tuple(anew.get(change.configuration, change) for change in found.speed)})


def show_comparison(found: Comparison, as_json: bool) -> None:
    """Print it."""
    from ..report.history import comparison_tables, comparison_verdict

    emit(found.jsonable(), as_json, *(table for table in comparison_tables(found) if table.rows))
    if not as_json:
        click.echo(f"\n{printable(comparison_verdict(found))}")
