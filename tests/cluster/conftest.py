"""Ray clusters of several nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from commands import ENVIRONMENT


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`made(head, *nodes)`: a cluster of nodes with these options; its `address` is its head's."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'modelport[ray]'")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    clusters = []

    def make(head: dict[str, Any], *nodes: dict[str, Any]) -> Any:
        cluster = utils.Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head})
        clusters.append(cluster)
        for node in nodes:
            cluster.add_node(**node)
        return cluster

    yield make
    for cluster in clusters:
        cluster.shutdown()
