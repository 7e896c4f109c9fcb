"""`modelport evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .remember import Memory, history_options
from .shared import PATH, emit, force_option, json_option

if TYPE_CHECKING:
    from ..report.rows import Table
    from ..results import Accuracy

_SHOWN = 5


@click.command()
@click.argument("directory", type=PATH)
@click.option(
    "--labels", type=PATH, help="Label file, `name class` per line, classes from 0; else the predictions' own."
)
@click.option(
    "-o", "--output", type=PATH, help="result.json in the guide's format; all figures go beside it as *.accuracy.json."
)
@history_options
@force_option
@json_option
def command(
    directory: Path, labels: Path | None, output: Path | None, memory: Memory, force: bool, as_json: bool
) -> None:
    """Compute Top1…Top5 of an `infer` directory, by image name; or of a directory or pattern of Parquet parts.

    Missing and unreadable images count as wrong; images that --limit left out, or that have no label, are not counted.
    Each number is shown.
    """
    import logging

    from ..accuracy import INFER_FILE, evaluate
    from ..history import record
    from ..report.rows import Table, denominator, percent

    result = evaluate(directory, labels, output, force=force)
    if (directory / INFER_FILE).is_file():  # else nobody knows what made the predictions
        memory.keep(lambda: [record.of_evaluate(result, directory, labels, memory.started)])
    if result.missing or result.extra:
        logging.getLogger("modelport").warning(denominator(result))
    rows = [
        (f"top-{n}", percent(share), f"{interval.low * 100:.2f}–{interval.high * 100:.2f} %")
        for n, (share, interval) in enumerate(zip(result.topn, result.interval95, strict=True), start=1)
    ]
    table = Table("Accuracy", ("", "share", "95 % interval (Wilson)"), rows, frozenset({1, 2}), [denominator(result)])
    emit(result.jsonable(), as_json, table, _classes(result), _confusion(result))


def _classes(result: Accuracy) -> Table | None:
    from ..report.rows import Table, percent

    if not result.worst_classes:
        return None
    rows = [
        (str(c.label), f"{c.images:,}", percent(c.top1 / c.images), percent(c.top5 / c.images))
        for c in result.worst_classes[:_SHOWN]
    ]
    return Table("Worst classes", ("class", "images", "top-1", "top-5"), rows, frozenset({0, 1, 2, 3}))


def _confusion(result: Accuracy) -> Table | None:
    from ..report.rows import Table

    rows = [(str(c.label), str(c.predicted), f"{c.images:,}") for c in result.most_confused[:_SHOWN]]
    return Table("Most confused", ("class", "taken for", "images"), rows, frozenset({0, 1, 2})) if rows else None
