"""A node of a cluster that is gone while it works: others do what it was at."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import nodes as ray_nodes
from ray import shutdown as ray_shutdown
from ray.cluster_utils import Cluster

from orchestrator.errors import BadInputError
from orchestrator.running.ray_cluster import connected
from orchestrator.settings import Settings
from tests.commands import run_cli, start_cli
from tests.faults.sweeps import shard_count, tables_in, wait_until
from tests.places import REPOSITORY


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


_WAITS = """
import json, sys
from orchestrator.running.ray_cluster import connected
from orchestrator.settings import Settings
from ray.autoscaler._private.constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray.experimental.internal_kv import _internal_kv_get

def requested():
    return json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL))

with connected(Settings(cluster=sys.argv[1], wait_for_gpus="2:2")) as joined:
    print(joined.devices.kind, joined.devices.count, requested())
with connected(Settings(cluster=sys.argv[1], device="cpu")):
    print(requested())
"""


def test_gpus_that_are_yet_to_come_are_asked_for_and_waited_for(cluster: Cluster) -> None:
    with pytest.raises(BadInputError, match=r"it has none\); --wait-for-gpus N .*--device cpu"):
        # A model that is not small: the settings of one that is say cpu.
        connected(Settings(cluster=cluster.address)).__enter__()
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS, cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waits:
        assert waits.stderr is not None
        assert waits.stderr.readline() == "0 of 2 GPUs are free; waiting, 2 minutes at most…\n"
        cluster.add_node(num_cpus=1, num_gpus=2)
        out, error = waits.communicate(timeout=120)
    assert out.splitlines() == ["cuda 2 [{'GPU': 1}, {'GPU': 1}]", "[]"], error


@pytest.fixture
def bare_node(cluster: Cluster, sweep: list[str]) -> Iterator[None]:
    """A node of one core that sees nothing in the model's folder."""
    model = sweep[sweep.index("--model") + 1]
    ray = Path(sys.executable).with_name("ray")
    start = f"{ray} start --address={cluster.address} --num-cpus=1 --block"
    hidden = ["unshare", "-m", "bash", "-c", f"mount -t tmpfs none {model} && exec {start}"]
    if subprocess.run([*hidden[:-1], f"mount -t tmpfs none {model}"]).returncode:
        pytest.skip("nothing may be mounted here")
    with subprocess.Popen(hidden, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        cluster.connect()
        try:
            wait_until(lambda: sum(one["Alive"] for one in ray_nodes()) == 2)
            yield
        finally:
            ray_shutdown()
            for process in psutil.Process(node.pid).children(recursive=True):
                process.kill()
            node.kill()


@pytest.mark.usefixtures("bare_node")
def test_a_node_without_the_models_files_is_left_out(
    sweep: list[str], undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    ran = run_cli([*sweep, "--cluster", cluster.address, "--results", str(tmp_path)])
    assert ran.returncode == 0, ran.stderr
    model = sweep[sweep.index("--model") + 1]
    (left_out,) = [line for line in ran.stderr.splitlines() if " lacks " in line]
    assert f" is left out: it lacks {model}/" in left_out
    assert "to do on 1 cpu actor" in ran.stderr
    assert "trying again" not in ran.stderr
    assert tables_in(tmp_path) == undisturbed


# Stands for NVIDIA's on a node: its GPUs, all of one size.
_PYNVML = """
from types import SimpleNamespace

NVMLError = OSError
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 2
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(free={size}, total={size})
nvmlDeviceGetCudaComputeCapability = lambda handle: (8, 0)
"""

_UNLIKE = """
import sys
import ray
from orchestrator.running.nodes import Needs
from orchestrator.running.ray_cluster import connected
from orchestrator.running.ray_pool import RayPool
from orchestrator.settings import Settings

for needed in (4, 20, 90):
    with connected(Settings(cluster=sys.argv[1]), Needs(gpu_bytes=needed * 2**30)) as joined:
        print(joined.devices.count, joined.devices.memory_bytes // 2**30, len(joined.off))
        if needed == 20:
            pool = RayPool(threads=1, name="a-run", off=joined.off)
            where = lambda actor: ray.get_runtime_context().get_node_id()
            actors = [pool.start(gpus=1) for _ in range(2)]
            nodes = ray.get([one.handle.__ray_call__.remote(where) for one in actors])
            print(len(set(nodes)), set(nodes).isdisjoint(joined.off))
"""


def test_nodes_of_smaller_gpus_are_left_out_where_a_variant_needs_more(
    cluster: Cluster, tmp_path: Path
) -> None:
    for gib in (16, 80):
        module = tmp_path / str(gib) / "pynvml.py"
        module.parent.mkdir()
        module.write_text(_PYNVML.format(size=gib * 2**30))
        path = f"{module.parent}:{REPOSITORY}"
        cluster.add_node(num_cpus=2, num_gpus=2, env_vars={"PYTHONPATH": path})
    cluster.wait_for_nodes()
    ran = subprocess.run(
        [sys.executable, "-c", _UNLIKE, cluster.address], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    # All four; those of 80 GiB; all again, none of which is large enough, as the plan then says.
    assert ran.stdout.splitlines() == ["4 16 0", "2 80 1", "1 True", "4 16 0"]
    (said,) = [line for line in ran.stderr.splitlines() if line.startswith("node ")]
    assert said.endswith("is left out: it has a GPU of 16.0 GiB, and a variant needs 20.0 GiB")
