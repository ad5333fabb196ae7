"""What the nodes of a joined Ray cluster have."""

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray._private.state import available_resources_per_node

from orchestrator.console import messages_console, say
from orchestrator.errors import BadInputError
from orchestrator.planning.devices import Devices
from orchestrator.running.nodes import Needs, NodeReport, left_out, look
from orchestrator.settings import Settings

T = TypeVar("T", int, tuple[int, int])

# Of each node, its id.
NODE_ID = "ray.io/node-id"
_LOOKING_SECONDS = 30.0
_FREED_SECONDS, _POLL_SECONDS = 20.0, 0.5


def reports_of_nodes(settings: Settings, needs: Needs) -> dict[str, NodeReport]:
    """What each node has on which actors may be started, by its id; of those that answer."""
    resource = "CPU" if settings.device == "cpu" else "GPU"
    nodes = [node for node in _nodes() if node["Resources"].get(resource, 0) >= 1]
    if settings.device == "cpu" and (len(nodes) < 2 or not needs.files):
        return {}
    asking = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        asking.options(label_selector={NODE_ID: node["NodeID"]}).remote(needs.files): node["NodeID"]
        for node in nodes
    }
    answered: list[Any] = []
    if asked:
        answered, _ = ray.wait([*asked], num_returns=len(asked), timeout=_LOOKING_SECONDS)
    found: dict[str, NodeReport] = {}
    for call in answered:
        # What keeps it from answering, such as a package that is missing, keeps actors off as well.
        with suppress(ray.exceptions.RayError):
            found[asked[call]] = ray.get(call)
    return found


def nodes_left_out(reports: Mapping[str, NodeReport], needs: Needs) -> tuple[str, ...]:
    """The ids of the nodes that are of no use; tells of each."""
    names = {node["NodeID"]: node["NodeManagerAddress"] for node in _nodes()}
    found = left_out(reports, needs)
    for one in found:
        name = names.get(one.node, one.node)
        say(messages_console(), f"node {name} is left out: it {one.why}")
    return tuple(one.node for one in found)


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def free_devices(
    settings: Settings, reports: Mapping[str, NodeReport], off: Collection[str]
) -> Devices:
    """What a joined cluster has free.

    Args:
        reports: what its nodes have, as far as they have said so.
        off: ids of nodes that do not count.

    Raises:
        BadInputError: nothing, or no GPU for a model that is too large for processors to be meant.
    """
    # Settings name the CPU for a small model.
    if settings.device == "cpu":
        by_node, _ = _free("CPU", off)
        cores = sum(by_node)
        if cores < 1:
            raise BadInputError("--cluster", f"no processor is left on '{settings.cluster}'; wait")
        return Devices("cpu", cores, memory_bytes=None, node_cores=_smallest_node(off))
    by_node, gpus = _free("GPU", off)
    left = sum(by_node)
    if left < 1:
        there = f"{gpus} in all, none free" if gpus else "it has none"
        raise BadInputError(
            "--cluster",
            f"no GPU is left on '{settings.cluster}' ({there}); --wait-for-gpus N waits for N, "
            "and asks a cluster that scales for them; --device cpu takes processors",
        )
    of_use = [report for node, report in reports.items() if node not in off]
    return Devices(
        "cuda",
        left,
        memory_bytes=_least(report.gpu_bytes for report in of_use),
        node_cores=_smallest_node(off),
        host_bytes=_least(report.host_bytes for report in of_use),
        node_gpus=by_node,
        capability=_least(report.capability for report in of_use),
    )


def _least(found: Iterable[T | None]) -> T | None:
    """The least of those that are known."""
    return min((one for one in found if one is not None), default=None)


def _free(resource: str, off: Collection[str]) -> tuple[tuple[int, ...], int]:
    """How much of something each node of a joined cluster has free, and how much there is in all,
    less some nodes.

    What a job had that was just stopped is free a moment later: that is waited for.
    """
    deadline = time.monotonic() + _FREED_SECONDS
    while True:
        nodes = [node for node in _nodes() if node["NodeID"] not in off]
        there = int(sum(node["Resources"].get(resource, 0) for node in nodes))
        by_node = available_resources_per_node()
        free = tuple(int(by_node.get(node["NodeID"], {}).get(resource, 0)) for node in nodes)
        if any(free) or not there or time.monotonic() > deadline:
            return free, there
        time.sleep(_POLL_SECONDS)


def _smallest_node(off: Collection[str]) -> int:
    nodes = [node for node in _nodes() if node["NodeID"] not in off]
    cores = [int(node["Resources"].get("CPU", 0)) for node in nodes]
    return min((count for count in cores if count > 0), default=1)
