"""`modelport evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from .shared import PATH, emit, force_option, json_option


@click.command()
@click.argument("directory", type=PATH)
@click.option("--labels", type=PATH, required=True, help="Label file, `name class` per line, classes from 0.")
@click.option(
    "-o", "--output", type=PATH, help="result.json in the guide's format; all figures go beside it as *.accuracy.json."
)
@force_option
@json_option
def command(directory: Path, labels: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Compute Top1…Top5 of an `infer` directory, by image name.

    Missing and unreadable images count as wrong; images that --limit left out, or that have no label, are not counted.
    Each number is shown.
    """
    import logging

    from ..accuracy import evaluate
    from ..report.rows import Table, denominator, percent

    result = evaluate(directory, labels, output, force=force)
    if result.missing or result.extra:
        logging.getLogger("modelport").warning(denominator(result))
    rows = [
        (f"top-{n}", percent(share), f"{interval.low * 100:.2f}–{interval.high * 100:.2f} %")
        for n, (share, interval) in enumerate(zip(result.topn, result.interval95, strict=True), start=1)
    ]
    table = Table("Accuracy", ("", "share", "95 % interval (Wilson)"), rows, frozenset({1, 2}), [denominator(result)])
    emit(result.jsonable(), as_json, table)
