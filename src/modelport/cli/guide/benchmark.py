"""`modelport guide benchmark`: chapters 5.2 and 7.1. Flags have one dash and `=`, as the tool's own."""

from __future__ import annotations

from pathlib import Path

import click

from ..shared import PATH, device_numbers, progress


@click.command(context_settings={"help_option_names": ["-h", "-help", "--help"]})
@click.option(
    "-model_type", default="vision", show_default=True, type=click.Choice(["vision"]), help="Image models only, here."
)
@click.option(
    "-batch_size", type=click.IntRange(min=1), default=1, show_default=True, help="Must be the offline model's."
)
@click.option(
    "-device_id", callback=device_numbers, default="0", show_default=True, help="One id, or several with commas."
)
@click.option("-om_path", type=PATH, required=True, help="Offline model.")
@click.option("-input_text_path", type=PATH, help=".info list of a real-data run.")
@click.option("-input_width", type=click.IntRange(min=1), help="Checked against the model's.")
@click.option("-input_height", type=click.IntRange(min=1), help="Checked against the model's.")
@click.option("-output_binary", type=bool, default=False, show_default=True, help="True writes .bin, False .txt.")
@click.option(
    "-useDvpp", "use_dvpp", type=bool, default=False, show_default=True, help="True decodes JPEGs of a jpg .info here."
)
@click.option("-round", "rounds", type=click.IntRange(min=1), help="Pure inference: this many rounds, no input list.")
def command(
    model_type: str, batch_size: int, device_id: tuple[int, ...], om_path: Path, input_text_path: Path | None,
    input_width: int | None, input_height: int | None, output_binary: bool, use_dvpp: bool, rounds: int | None,
) -> None:  # fmt: skip
    """Chapters 5.2 and 7.1: run an offline model on an .info list, or on random input by rounds, as benchmark.x86_64 does.

    Real data: scores into result/dumpOutput_device{id}, figures into result/perf_vision_batchsize_{bs}_device_{id}.txt. With
    -round: result/PureInfer_perf_of_{model}_in_device_{id}.txt.
    """
    from ...guide.benchmark import BenchmarkOptions, run_pure, run_real_data

    if (input_text_path is None) == (rounds is None):
        raise click.UsageError("give either -input_text_path=LIST.info (real data) or -round=N (pure inference)")
    options = BenchmarkOptions(
        om_path=om_path,
        batch_size=batch_size,
        devices=device_id,
        info=input_text_path,
        size=(input_width, input_height),
        binary=output_binary,
        decode=use_dvpp,
    )
    if rounds is not None:
        for path, performance in run_pure(options, rounds, on_round=_show_round):
            click.echo(performance.summary(f"./{path}"))
        return
    with progress() as update:
        runs = run_real_data(options, progress=update)
    for run in runs:
        click.echo(
            f"[INFO] {run.result.images} inputs, scores saved in ./{run.dump}, performance in ./{run.performance}"
        )
        click.echo(run.performance.read_text(encoding="utf-8"), nl=False)
    if len(runs) > 1:
        total = sum(run.result.interface.throughput for run in runs)
        click.echo(
            f"[INFO] {len(runs)} devices together: Interface throughputRate: {total:g}, measured at the same time"
        )


def _show_round(number: int, milliseconds: float) -> None:
    click.echo(f"[INFO] Dataset number: {number} finished cost {milliseconds:.4g}ms")
