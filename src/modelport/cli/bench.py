"""`modelport bench`."""

from __future__ import annotations

from pathlib import Path

import click

from .remember import Memory, history_options
from .shared import PATH, emit, json_option, progress, session_options


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    show_default="as many as a second takes, at least 30 and at most 1000",
    help="Counted batches.",
)
@click.option(
    "--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Batches run before, not counted."
)
@session_options
@history_options
@json_option
def command(
    models: tuple[Path, ...], rounds: int | None, warmup: int, streams: int | None, threads: int | None, devices: tuple[int, ...],
    memory: Memory, as_json: bool,
) -> None:  # fmt: skip
    """Measure pure inference of offline models on random input.

    Several models of different batch sizes make one table. With --json, one model gives one document, several a list.
    """
    from ..engines.session import SessionOptions
    from ..history import record
    from ..measure.bench import bench
    from ..report.rows import bench_table, devices_table

    options = SessionOptions(streams=streams, threads=threads, devices=devices)
    with progress() as update:
        results = [bench(model, rounds=rounds, warmup=warmup, options=options, progress=update) for model in models]
    memory.keep(lambda: record.of_benches(models, results, memory.started))
    documents = [result.jsonable() for result in results]
    names = dict.fromkeys(result.name for result in results)
    tables = [bench_table([result for result in results if result.name == name], name) for name in names]
    tables += [devices_table(result) for result in results]
    emit(documents[0] if len(documents) == 1 else documents, as_json, *tables)
