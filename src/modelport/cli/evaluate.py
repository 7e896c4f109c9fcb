"""`modelport evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from .remember import Memory, history_options
from .shared import PATH, emit, force_option, json_option


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
    from ..report.rows import Table, confused, denominator, percent, worst_classes

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
    called = _called(directory)
    emit(result.jsonable(), as_json, table, worst_classes(None, result, called), confused(None, result, called))


def _called(directory: Path) -> Callable[[int], str]:
    """How a class is told: by its number, and its name where `infer` knew it."""
    from ..accuracy import INFER_FILE
    from ..results import InferResult

    spec = InferResult.read(directory / INFER_FILE).model if (directory / INFER_FILE).is_file() else None
    return spec.called if spec else str
