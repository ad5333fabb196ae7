"""Where a sweep's actors run, as the sweep sees it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Protocol

from orchestrator.errors import BadInputError
from orchestrator.planning.devices import Devices, local_devices
from orchestrator.running.imported_ahead import importing
from orchestrator.running.in_process import InProcessCluster
from orchestrator.running.nodes import NOTHING, Needs
from orchestrator.running.pool import Pool
from orchestrator.settings import Settings


class Cluster(Protocol):
    """Machines that actors can be started on."""

    def known_devices(self, settings: Settings) -> Devices | None:
        """What it has to run models on, where that is known before it is there; else None."""
        ...

    def connected(
        self, settings: Settings, needs: Needs = NOTHING
    ) -> AbstractContextManager[Devices]:
        """Starts or joins it; what it has to run models on.

        Args:
            needs: what a machine must have to be of use.

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

    def __init__(self) -> None:
        # What Ray is to start the first actor by, where its process is there already.
        self._first_python: str | None = None
        # Ids of nodes that no actor is started on.
        self._off: tuple[str, ...] = ()

    def known_devices(self, settings: Settings) -> Devices | None:
        """This machine's devices, where it is the cluster."""
        return local_devices(settings.device) if settings.cluster == "local" else None

    @contextmanager
    def connected(self, settings: Settings, needs: Needs = NOTHING) -> Iterator[Devices]:
        """Starts or joins it; what it has to run models on."""
        with ExitStack() as stack:
            if _has_one_gpu(self.known_devices(settings)):
                # Ray needs such a folder, too, and says what is wrong with it.
                with suppress(OSError):
                    self._first_python = stack.enter_context(importing())

            from orchestrator.running.ray_cluster import connected

            joined = stack.enter_context(connected(settings, needs))
            self._off = joined.off
            yield joined.devices

    def pool(self, threads: int, name: str) -> Pool:
        """The cluster's actors, once it is connected."""
        from orchestrator.running.ray_pool import RayPool

        return RayPool(threads, name, self._first_python, self._off)


def _has_one_gpu(devices: Devices | None) -> bool:
    """Whether a process may import before Ray says which GPU it has, and that is of use.

    Some libraries look for GPUs while they are imported: what hides the others comes too late then.
    Without a GPU all has to share the cores, Ray's start and the imports as well.
    """
    return devices is not None and devices.kind == "cuda" and devices.count == 1


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
