"""How long a run on a cluster will take: the numbers that it depends on, and what follows from them. A forecast, never a measurement."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, computed_field

from .base import Result

Positive = Annotated[float, Field(gt=0)]


class ClusterLoad(Result):
    """What a run on a cluster depends on. Seconds, bytes and images; rates are per second.

    Attributes:
        images, nodes, devices: how many images, nodes, and devices on each node.
        device_rate: images a second of one device, executing.
        device_cores: cores of its node that a device keeps busy besides decoding (a CPU device: all that it computes on).
        decode_s: processor seconds to read, decode and prepare an image.
        cores: of each node.
        image_bytes: of one image file.
        network: bytes a second into each node.
        store: bytes a second out of the store, for all nodes together.
        shard: images in a shard.
        commit_s: seconds in which an actor makes a shard's part durable.
        journal_s: seconds of the driver for a shard: what comes back, and the journal's line.
        part_bytes: of a prediction, durable.
        planned_bytes: of the driver's memory for each planned image.
        driver_bytes: memory of the driver that the plan may fill; what does not fit is another run.
        start_s: seconds until a run's actors are open.
        efficiency: what the scheduling leaves, as a share.
    """

    images: Annotated[int, Field(ge=1)]
    nodes: Annotated[int, Field(ge=1)]
    devices: Annotated[int, Field(ge=1)]
    device_rate: Positive
    device_cores: Annotated[float, Field(ge=0)]
    decode_s: Positive
    cores: Positive
    image_bytes: Positive
    network: Positive
    store: Positive
    shard: Annotated[int, Field(ge=1)]
    commit_s: Annotated[float, Field(ge=0)]
    journal_s: Positive
    part_bytes: Positive
    planned_bytes: Positive
    driver_bytes: Positive
    start_s: Annotated[float, Field(ge=0)]
    efficiency: Annotated[float, Field(gt=0, le=1)]


class Limit(Result):
    """What one resource alone would allow. `rate`: images a second of the whole cluster; `how` says how it follows."""

    name: str
    rate: float
    how: str


class ScalePlan(Result):
    """The forecast.

    Attributes:
        load: what it follows from.
        measured: names of the load's numbers that come from a measured run; the others are given, or the defaults.
        limits: of each resource, lowest first.
        runs: how many, one after the other, since a plan has to fit the driver.
    """

    format: Literal["modelport.plan"] = "modelport.plan"
    load: ClusterLoad
    measured: tuple[str, ...]
    limits: tuple[Limit, ...]
    runs: int

    @computed_field
    @property
    def rate(self) -> float:
        """Images a second, of the whole cluster, end to end."""
        return self.limits[0].rate * self.load.efficiency

    @computed_field
    @property
    def wall_s(self) -> float:
        """Seconds of all runs."""
        return self.load.images / self.rate + self.runs * self.load.start_s

    @computed_field
    @property
    def shards(self) -> int:
        """Parts that are committed."""
        return -(-self.load.images // self.load.shard)

    @computed_field
    @property
    def at_risk_s(self) -> float:
        """Work of one device that is done again where it is killed: two shards, at most."""
        return 2 * self.load.shard / self.load.device_rate
