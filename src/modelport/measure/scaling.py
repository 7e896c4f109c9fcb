"""A forecast of a run on a cluster that we do not have: what devices, cores, network, store and driver would each allow."""

from __future__ import annotations

from typing import Any

from ..errors import FormatError
from ..results import ClusterLoad, InferResult, Limit, ScalePlan

# Measured on two cores of an AMD EPYC (Zen 4), where and when docs/scaling.md says. `start_s` is a guess.
DEFAULTS: dict[str, Any] = {
    "device_cores": 0.0,
    "decode_s": 2.4e-3,
    "cores": 64.0,
    "image_bytes": 110e3,  # ImageNet's mean
    "network": 25e9 / 8,
    "store": 400e9 / 8,
    "shard": 1024,
    "commit_s": 5e-3,
    "journal_s": 5e-3,
    "part_bytes": 72.0,
    "planned_bytes": 600.0,
    "driver_bytes": 32e9,
    "start_s": 60.0,
    "efficiency": 0.94,
}


def plan_scale(load: ClusterLoad, measured: tuple[str, ...] = ()) -> ScalePlan:
    """Forecast a run.

    A device's time for a shard is that of its images and of its commit; decoding gets the cores that devices leave; the driver
    takes shards one after the other. Whatever allows least decides, times the efficiency.

    Raises:
        FormatError: the devices leave no core to decode with.
    """
    decoding = load.cores - load.devices * load.device_cores
    if decoding <= 0:
        raise FormatError(
            f"{load.devices} devices of {load.device_cores:g} cores leave none of a node's {load.cores:g} to decode with: give more "
            "cores, or fewer devices"
        )
    device = load.shard / (load.shard / load.device_rate + load.commit_s)
    count = load.nodes * load.devices
    limits = [
        Limit(name="devices", rate=count * device, how=f"{count:,} devices x {device:,.1f} img/s, commits included"),
        Limit(
            name="decoding",
            rate=load.nodes * decoding / load.decode_s,
            how=f"{load.nodes * decoding:,.0f} cores / {load.decode_s * 1e3:.2f} ms",
        ),
        Limit(
            name="network",
            rate=load.nodes * load.network / load.image_bytes,
            how=f"{load.nodes:,} nodes x {load.network / 1e9:.2f} GB/s / {load.image_bytes / 1e3:.0f} kB",
        ),
        Limit(
            name="store",
            rate=load.store / load.image_bytes,
            how=f"{load.store / 1e9:.0f} GB/s / {load.image_bytes / 1e3:.0f} kB",
        ),
        Limit(
            name="driver",
            rate=load.shard / load.journal_s,
            how=f"shards of {load.shard:,} / {load.journal_s * 1e3:.1f} ms",
        ),
    ]
    runs = max(1, -(-int(load.images * load.planned_bytes) // int(load.driver_bytes)))
    limits.sort(key=lambda limit: limit.rate)
    return ScalePlan(load=load, measured=measured, limits=tuple(limits), runs=runs)


def numbers_of(run: InferResult) -> dict[str, float]:
    """What a measured run says of one device: its rate, the cores that it keeps busy, and an image's processor time before it.

    Raises:
        FormatError: it inferred nothing itself, or is of a version that did not record devices.
    """
    stages = {stage.name: stage for stage in run.stages}
    devices = [device for device in run.by_device if device.images]
    infer, images = stages.get("infer"), sum(device.images for device in devices)
    if infer is None or not devices or not images:
        raise FormatError("the run says nothing of its devices: infer again with this version, into an empty directory")
    busy = sum(device.busy_s for device in devices)
    before = sum(stages[name].cpu_s for name in ("read", "decode", "batch", "post") if name in stages)
    return {
        "device_rate": images / busy,
        "device_cores": infer.cpu_s / busy if infer.on_cores else 0.0,
        "decode_s": before / images,
    }
