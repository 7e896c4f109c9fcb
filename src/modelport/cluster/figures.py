"""How fast a run on a cluster is: what the actors measure, added up shard by shard, so that memory stays flat."""

from __future__ import annotations

from ..data.parts import Parts
from ..executor import end_to_end
from ..results import DeviceStats, Hygiene, Interface, StageStats
from ..work import Figures
from .shards import Outcome

_SUMMED = ("items", "images", "failures", "busy_s", "blocked_get_s", "blocked_put_s", "cpu_s")


class Tally:
    """Collects what became of shards, by actor, device and stage."""

    def __init__(self) -> None:
        self._actors = set[str]()
        self._devices: dict[str, tuple[int, float]] = {}
        self._stages: dict[str, StageStats] = {}
        self._restarts: int | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one shard."""
        self._actors.add(outcome.actor)
        if outcome.restarts is not None:
            self._restarts = (self._restarts or 0) + outcome.restarts
        for device in outcome.devices:
            name = f"{outcome.actor} {device.name}"
            images, busy = self._devices.get(name, (0, 0.0))
            self._devices[name] = images + device.images, busy + device.busy_s
        for stage in outcome.stages:
            before = self._stages.get(stage.name)
            sums = {name: getattr(before, name) + getattr(stage, name) for name in _SUMMED} if before else {}
            self._stages[stage.name] = stage.model_copy(update=sums)

    def figures(self, parts: Parts, wall: float, hygiene: Hygiene | None) -> Figures:
        """Of the whole run; `wall` is the driver's, in seconds."""
        devices = tuple(
            DeviceStats(name=name, images=images, busy_s=busy, wall_s=wall)
            for name, (images, busy) in sorted(self._devices.items())
        )
        busy = sum(device.busy_s for device in devices) / len(devices) if devices else 0.0
        actors, nodes = len(self._actors), len({name.split()[0] for name in self._actors})
        return Figures(
            e2e=end_to_end(parts),
            interface=Interface(throughput=sum(device.throughput for device in devices), busy_s=busy),
            stages=tuple(
                stage.model_copy(update={"workers": stage.workers * actors, "finished_s": wall, "wall_s": wall})
                for stage in self._stages.values()
            ),
            by_device=devices,
            hygiene=hygiene,
            restarts=self._restarts,
            cluster=f"{_count(actors, 'actor')} on {_count(nodes, 'node')}",
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
