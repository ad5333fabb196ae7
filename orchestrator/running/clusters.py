"""Where a sweep's actors run, as the sweep sees it."""

from contextlib import AbstractContextManager
from typing import Protocol

from orchestrator.errors import BadInputError
from orchestrator.planning.devices import Devices, local_devices
from orchestrator.running.in_process import InProcessCluster
from orchestrator.running.pool import Pool
from orchestrator.settings import Settings


class Cluster(Protocol):
    """Machines that actors can be started on."""

    def known_devices(self, settings: Settings) -> Devices | None:
        """What it has to run models on, where that is known before it is there; else None."""
        ...

    def connected(self, settings: Settings) -> AbstractContextManager[Devices]:
        """Starts or joins it; what it has to run models on.

        Raises:
            BadInputError: it cannot be had, or has no device left.
        """
        ...

    def pool(self, threads: int, name: str) -> Pool:
        """The cluster's actors, once it is connected.

        Args:
            threads: processor threads of each.
            name: whose they are, for whoever looks at the cluster.
        """
        ...


class RayCluster:
    """Ray's: one that it starts on this machine, or one to join."""

    # Ray is imported once it is needed: it takes a second, and what needs none must not wait.

    def known_devices(self, settings: Settings) -> Devices | None:
        """This machine's devices, where it is the cluster."""
        return local_devices(settings.device) if settings.cluster == "local" else None

    def connected(self, settings: Settings) -> AbstractContextManager[Devices]:
        """Starts or joins it; what it has to run models on."""
        from orchestrator.running.ray_cluster import connected

        return connected(settings)

    def pool(self, threads: int, name: str) -> Pool:
        """The cluster's actors, once it is connected."""
        from orchestrator.running.ray_pool import RayPool

        return RayPool(threads, name)


def cluster_of(settings: Settings) -> Cluster:
    """The cluster that settings name.

    Raises:
        BadInputError: it is no cluster that GPUs could be waited for of.
    """
    if settings.wait_for_gpus is not None:
        if settings.cluster in ("local", "none"):
            raise BadInputError(
                "--wait-for-gpus",
                "no other GPU comes to this machine; leave it out",
            )
        if settings.device == "cpu":
            raise BadInputError("--wait-for-gpus", "--device cpu takes none; leave one of them out")
    return InProcessCluster() if settings.cluster == "none" else RayCluster()
