"""How fast a run on a cluster was: what the actors measured, added up."""

from __future__ import annotations

from ..data.parts import Parts
from ..executor import end_to_end
from ..results import DeviceStats, Hygiene, Interface, StageStats
from ..work import Figures
from .shards import Outcome


def add_up(outcomes: list[Outcome], parts: Parts, wall: float, hygiene: Hygiene | None) -> Figures:
    """Figures of a run from what became of its shards; `wall` is the driver's, in seconds."""
    devices = _devices(outcomes, wall)
    rates = [device.throughput for device in devices if device.images]
    busy = sum(device.busy_s for device in devices) / len(devices) if devices else 0.0
    actors = len({outcome.actor for outcome in outcomes})
    nodes = len({outcome.actor.split()[0] for outcome in outcomes})
    return Figures(
        e2e=end_to_end(parts),
        interface=Interface(throughput=sum(rates), busy_s=busy),
        stages=_stages(outcomes, actors, wall),
        by_device=devices,
        hygiene=hygiene,
        cluster=f"{actors} actors on {nodes} nodes",
    )


def _devices(outcomes: list[Outcome], wall: float) -> tuple[DeviceStats, ...]:
    """Of each actor's devices, over all its shards."""
    found: dict[str, DeviceStats] = {}
    for outcome in outcomes:
        for device in outcome.devices:
            name = f"{outcome.actor} {device.name}"
            before = found.get(name)
            images, busy = (before.images, before.busy_s) if before else (0, 0.0)
            found[name] = DeviceStats(
                name=name, images=images + device.images, busy_s=busy + device.busy_s, wall_s=wall
            )
    return tuple(found[name] for name in sorted(found))


_SUMMED = ("items", "images", "failures", "busy_s", "blocked_get_s", "blocked_put_s", "cpu_s")


def _stages(outcomes: list[Outcome], actors: int, wall: float) -> tuple[StageStats, ...]:
    """Stages of the same name as one, with the workers of all actors."""
    same: dict[str, list[StageStats]] = {}
    for outcome in outcomes:
        for stage in outcome.stages:
            same.setdefault(stage.name, []).append(stage)
    return tuple(
        stages[0].model_copy(
            update={field: sum(getattr(stage, field) for stage in stages) for field in _SUMMED}
            | {"workers": stages[0].workers * actors, "finished_s": wall, "wall_s": wall}
        )
        for stages in same.values()
    )
