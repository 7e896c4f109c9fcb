"""The near side's hold on Ray: connecting, looking whether every node can do the work, and counting the actors that fit.

No dashboard, no usage statistics. Only this package imports Ray.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .. import __version__, telemetry
from ..errors import EngineUnavailableError
from ..host import usable_cores
from .actor import PROCESSOR, about

_PROBE_S = 120.0  # a node starts a fresh worker, which imports the package
_CONNECT_S = 5.0
log = logging.getLogger("modelport")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """Which cluster, and what an actor is.

    Attributes:
        address: host:port of the cluster's head, or `auto`; None takes RAY_ADDRESS, or starts a cluster on this machine.
        actors: how many; None as many as fit.
        cores: of each actor; None takes all cores of the smallest node.
        gpus: of each actor.
        decoders: threads that decode in each actor; None takes as many as its cores.
        shard: images in a shard at most: what is committed together, and lost where a worker is killed. More of them make less work
            for the driver.
    """

    address: str | None = None
    actors: int | None = None
    cores: int | None = None
    gpus: int = 0
    decoders: int | None = None
    shard: int = 1024

    def __post_init__(self) -> None:
        least_values = {"actors": 1, "cores": 1, "gpus": 0, "shard": 1}
        for name, least in least_values.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True, slots=True)
class Node:
    """A living node that may hold actors."""

    id: str
    address: str
    cpus: int
    gpus: int

    def room(self, cores: int, gpus: int) -> int:
        """How many actors fit."""
        return min(self.cpus // cores, self.gpus // gpus if gpus else self.cpus)


class Cluster:
    """A connected cluster; `connected` makes it.

    Attributes:
        ray: the module.
        options: as given.
        local: whether it was started for this run and ends with it.
        cores: of each actor.
    """

    def __init__(self, ray: ModuleType, options: ClusterOptions, address: str) -> None:
        self.ray, self.options, self._address = ray, options, address
        self.local = address == "local"
        self._connect()
        nodes = self.nodes()
        self.cores = options.cores or min((node.cpus for node in nodes), default=1)
        self.require_room(options.actors or 1)
        self._require_same_software(nodes)

    def nodes(self) -> list[Node]:
        """Those that are alive and have cores."""
        found = []
        for node in self.ray.nodes():
            resources = node["Resources"]
            if node["Alive"] and (cpus := int(resources.get("CPU", 0))):
                found.append(Node(node["NodeID"], node["NodeManagerAddress"], cpus, int(resources.get("GPU", 0))))
        return found

    def require_room(self, least: int) -> int:
        """How many actors there are to be, on the nodes that live now.

        Raises:
            EngineUnavailableError: fewer fit than `least`.
        """
        nodes, options = self.nodes(), self.options
        room = sum(node.room(self.cores, options.gpus) for node in nodes)
        need = f"{self.cores} cores" + (f" and {options.gpus} GPUs" if options.gpus else "")
        if room < least:
            have = (
                ", ".join(f"{node.address}: {node.cpus} cores, {node.gpus} GPUs" for node in nodes) or "no cores at all"
            )
            raise EngineUnavailableError(
                f"the Ray cluster has room for {room} actors of {need}, {least} were asked for ({have}): ask for "
                "fewer or smaller ones (--actors, --actor-cores, --actor-gpus), or add nodes"
            )
        return min(options.actors or room, room)

    def _connect(self) -> None:
        if self.ray.is_initialized():
            raise EngineUnavailableError("Ray is connected already in this process: call ray.shutdown() first")
        more: dict[str, Any] = {"num_cpus": usable_cores()} if self.local else {}
        try:
            self.ray.init(
                self._address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **more
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise EngineUnavailableError(f"cannot join the Ray cluster at {self._address}: {gist(error)}") from error

    def _require_same_software(self, nodes: list[Node]) -> None:
        """Ask every node what it would run."""
        ours = about()
        asked = {node: self._on(node, about) for node in nodes}
        for node, reference in asked.items():
            theirs = self._answer(node, reference)
            differing = [name for name in ours if theirs.get(name) != ours[name]]
            told = ", ".join(f"{name} {theirs.get(name)} (here {ours[name]})" for name in differing)
            if differing == [PROCESSOR]:
                log.warning("node %s has another %s: last digits of scores may differ", node.address, told)
            elif differing:
                raise EngineUnavailableError(
                    f"node {node.address} has {told}: predictions could differ; install the same versions on every node"
                )

    def _on(self, node: Node, function: Any) -> Any:
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        return self.ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(function).remote()

    def _answer(self, node: Node, reference: Any) -> Any:
        try:
            return self.ray.get(reference, timeout=_PROBE_S)
        except self.ray.exceptions.GetTimeoutError as error:
            raise EngineUnavailableError(f"node {node.address} did not start a worker in {_PROBE_S:.0f} s") from error
        except (self.ray.exceptions.RayError, RuntimeError) as error:
            if "No module named 'modelport'" in str(error):
                raise EngineUnavailableError(
                    f"node {node.address} does not have modelport: pip install 'modelport[ray]=={__version__}' there"
                ) from error
            raise EngineUnavailableError(f"node {node.address} cannot run modelport: {gist(error)}") from error


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine, and leave it at the end.

    Raises:
        EngineUnavailableError: Ray is not installed, nobody answers at the address, a node lacks the package or has another
            version, or the actors do not fit.
    """
    telemetry.switch_off()
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a late thread of Ray Data must not start a cluster of its own
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what ends a run is told in a line of our own
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its future default; else it warns
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise EngineUnavailableError(f"Ray (ray) is not installed ({error}): pip install 'modelport[ray]'") from error
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    _require_answer(address)
    try:
        yield Cluster(ray, options, address)
    finally:
        ray.shutdown()


def gist(error: BaseException) -> str:
    """The telling line of what Ray raises, which may be a page: of a traceback the last one, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]


def _require_answer(address: str) -> None:
    """Ray itself would wait for a minute."""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise EngineUnavailableError(
            f"{address!r} is no address of a Ray cluster: expected host:port of its head node, such as 10.0.0.1:6379, or auto"
        )
    try:
        with closing(socket.create_connection((host, int(port)), timeout=_CONNECT_S)):
            pass
    except (OSError, OverflowError) as error:
        raise EngineUnavailableError(
            f"no Ray cluster answers at {address} ({error}): start one there with `ray start --head`, or leave --address out"
        ) from error
