"""`modelport plan`."""

from __future__ import annotations

from pathlib import Path

import click

from .shared import PATH, emit, json_option


@click.command()
@click.option("--images", type=click.IntRange(min=1), required=True, help="How many.")
@click.option("--nodes", type=click.IntRange(min=1), required=True, help="How many.")
@click.option(
    "--devices-per-node", type=click.IntRange(min=1), default=1, show_default=True, help="Actors with a session each."
)
@click.option(
    "--like", type=PATH, help="infer.json of a measured run: takes device rate and cores and decoding time from it."
)
@click.option("--device-rate", type=float, metavar="IMG/S", help="Of one device, executing.")
@click.option("--device-cores", type=float, help="Cores that a device keeps busy; 0 for an accelerator.")
@click.option("--decode-ms", type=float, help="Processor time to read, decode and prepare an image.")
@click.option("--cores", type=float, help="Of each node.")
@click.option("--image-kb", type=float, help="Size of an image file.")
@click.option("--network-gbit", type=float, help="Into each node.")
@click.option("--store-gbit", type=float, help="Out of the store, for all nodes together.")
@click.option("--shard-images", type=click.IntRange(min=1), help="Images that are committed together.")
@click.option("--commit-ms", type=float, help="Of an actor, to make a shard's part durable.")
@click.option("--journal-ms", type=float, help="Of the driver, for a shard.")
@click.option("--driver-gb", type=float, help="Memory of the driver that a plan may fill.")
@click.option("--efficiency", type=float, help="Share that scheduling leaves.")
@json_option
def command(
    images: int, nodes: int, devices_per_node: int, like: Path | None, device_rate: float | None, device_cores: float | None,
    decode_ms: float | None, cores: float | None, image_kb: float | None, network_gbit: float | None, store_gbit: float | None,
    shard_images: int | None, commit_ms: float | None, journal_ms: float | None, driver_gb: float | None,
    efficiency: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Forecast a run on a cluster: how long, and which of devices, decoding, network, store and driver limits it.

    Nothing is run. The forecast says which of its numbers were measured.
    """
    from ..measure.scaling import DEFAULTS, numbers_of, plan_scale
    from ..report.scaling import plan_tables
    from ..results import ClusterLoad, InferResult

    given = {
        "images": images, "nodes": nodes, "devices": devices_per_node, "device_rate": device_rate, "device_cores": device_cores,
        "decode_s": _times(decode_ms, 1e-3), "cores": cores, "image_bytes": _times(image_kb, 1e3),
        "network": _times(network_gbit, 1e9 / 8), "store": _times(store_gbit, 1e9 / 8), "shard": shard_images,
        "commit_s": _times(commit_ms, 1e-3), "journal_s": _times(journal_ms, 1e-3), "driver_bytes": _times(driver_gb, 1e9),
        "efficiency": efficiency,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    measured = numbers_of(InferResult.read(like)) if like is not None else {}
    if "device_rate" not in given | measured:
        raise click.UsageError("Missing option '--device-rate', or '--like' with a measured run.")
    load = ClusterLoad.parse({**DEFAULTS, **measured, **given}, "plan")
    plan = plan_scale(load, tuple(name for name in measured if name not in given))
    emit(plan.jsonable(), as_json, *plan_tables(plan))


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
