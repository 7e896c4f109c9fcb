"""A Ray cluster of several nodes on this machine, shared by all tests: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from commands import ENVIRONMENT

from modelport.engines.null import FAULT

SLOW = "infer-slow:15"  # milliseconds a batch, so that there is a middle to kill in
QUICK_CHECK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes of one core each. Who takes a node away, or adds one, puts it right again."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'modelport[ray]'")
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_CHECK}
    with pytest.MonkeyPatch.context() as patch:  # the nodes keep it; the tests of this process must not
        for name, value in (ENVIRONMENT | {FAULT: SLOW}).items():
            patch.setenv(name, value)
        made = utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        made.shutdown()
