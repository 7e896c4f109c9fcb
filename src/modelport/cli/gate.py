"""`modelport gate`."""

from __future__ import annotations

from pathlib import Path

import click

from .compare import across_option, again_option, compared, fraction, noise_option
from .remember import history_option
from .shared import PATH, emit, force_option, json_option

GATE_FAILED = 3


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--baseline", required=True, metavar="RUN", help="What RUN is held against: an id, or a file or directory."
)
@click.option(
    "--max-slowdown",
    callback=fraction,
    default="5%",
    show_default=True,
    metavar="PERCENT",
    help="Largest slowdown of a configuration's median latency that passes; less than the noise cannot be told.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0, max=100),
    metavar="POINTS",
    help="Largest drop of a target's top-1 that passes; left out, what is not beyond noise.",
)
@click.option("--strict", is_flag=True, help="A slowdown beyond the limit fails also where noise may explain it.")
@click.option("--junit", type=PATH, metavar="FILE", help="Write the verdict as JUnit XML as well.")
@across_option
@noise_option
@again_option
@history_option
@force_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, run: str, baseline: str, max_slowdown: float, max_drop: float | None, strict: bool, junit: Path | None,
    across_environments: bool, noise: float | None, again: bool, history: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Hold RUN (the latest entry of the history if left out) against a baseline, for continuous integration.

    Exit code 3, and the reason in one line on stderr, where it is slower or less accurate than is allowed; 0 where it is not.
    """
    import logging

    from ..files import refuse_existing, write_text
    from ..history.gate import GateLimits, judge_comparison
    from ..report.history import comparison_tables, gate_line, render_gate_junit

    if junit is not None:
        refuse_existing(junit, force=force, reuse_empty=False)
    limits = GateLimits(max_slowdown=max_slowdown, max_drop=max_drop, strict=strict)
    found = compared(baseline, run, history, across=across_environments, noise=noise, again=again)
    verdict = judge_comparison(found, limits)
    if junit is not None:
        write_text(junit, render_gate_junit(verdict))
    emit(verdict.jsonable(), as_json, *(table for table in comparison_tables(verdict.comparison) if table.rows))
    log = logging.getLogger("modelport")
    for note in verdict.notes:
        log.warning(note)
    if verdict.passed:
        log.info("gate %s", gate_line(verdict))
    else:
        log.error("gate %s", gate_line(verdict))
        ctx.exit(GATE_FAILED)
