"""A node of a cluster that is gone while it works: others do what it was at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.commands import start_cli
from tests.faults.sweeps import shard_count, tables_in, wait_until


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two nodes of one core each; that one is gone is noticed within seconds."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": quick})
    try:
        yield started
    finally:
        started.shutdown()


def test_a_node_that_vanishes_costs_only_what_it_was_at(
    sweep: list[str], undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    flags = ["--cluster", cluster.address, "--results", str(tmp_path)]
    process = start_cli([*sweep, *flags])
    wait_until(lambda: process.poll() is not None or shard_count(tmp_path) >= 6)
    cluster.remove_node(node, allow_graceful=False)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "trying again" in said
    assert tables_in(tmp_path) == undisturbed
