"""`modelport guide acc-eval`: chapter 6.1."""

from __future__ import annotations

from pathlib import Path

import click

from ..shared import PATH, progress


@click.command()
@click.argument("dump", type=PATH)
@click.argument("labels", type=PATH)
@click.argument("directory", type=PATH)
@click.argument("name")
def command(dump: Path, labels: Path, directory: Path, name: str) -> None:
    """Chapter 6.1: Top1…Top5 of a DUMP directory against LABELS, into DIRECTORY/NAME.

    Fails on what the original hides: images without scores, and score files without a label.
    """
    from ...guide.acc_eval import evaluate_guide
    from ...report.rows import denominator

    with progress() as update:
        accuracy = evaluate_guide(dump, labels, directory / name, update)
    click.echo(denominator(accuracy), err=True)
    click.echo((directory / name).read_text(encoding="utf-8"), nl=False)
