"""What this machine or a cluster has to run models on, and what a sweep may use of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psutil

from orchestrator.contract.shards import DeviceChoice, DeviceKind

# Models with fewer weights are not worth a GPU.
_SMALL_ELEMENTS = 20_000_000


@dataclass(frozen=True)
class Devices:
    """The devices of a sweep.

    Attributes:
        count: GPUs, or processor cores.
        memory_bytes: free memory of the smallest GPU, or of the machine; None where not known.
        node_cores: processor cores of the smallest machine; an actor cannot have more.
        most_actors: that may be at work at once, whatever there is; None where it is as many as
            there is room for.
        host_bytes: free memory of the smallest machine; None where not known.
        node_gpus: how many of the GPUs each machine has; none where they are not to be told apart,
            so that no model is on several.
    """

    kind: DeviceKind
    count: int
    memory_bytes: int | None
    node_cores: int
    most_actors: int | None = None
    host_bytes: int | None = None
    node_gpus: tuple[int, ...] = ()

    @property
    def most_gpus(self) -> int:
        """The most GPUs that a model can have, which are of one machine."""
        return max(self.node_gpus, default=1)


@dataclass(frozen=True)
class Capacity:
    """What may run at once.

    Attributes:
        actors: the most actors.
        gpus: the most GPUs that they may hold together.
        threads: processor threads that each gets.
        streaming: the most actors whose models lie in the host's memory; None where any may.
    """

    actors: int
    gpus: int
    threads: int
    streaming: int | None = None


def device_for(device: DeviceChoice, elements: int) -> DeviceChoice:
    """Where a model is run: `auto` is the CPU for a small one.

    A GPU then does nothing but wait for the host to launch its kernels.

    Args:
        device: as the user says.
        elements: of the model's tensors.
    """
    return "cpu" if device == "auto" and elements < _SMALL_ELEMENTS else device


def local_devices(device: DeviceChoice) -> Devices:
    """The devices of this machine, found without loading torch.

    Returns:
        GPUs where there are any and `device` allows it, else the processor's cores. With `cuda`
        and no GPU the count is 0.
    """
    cores = len(os.sched_getaffinity(0))
    gpus = gpu_memory() if device != "cpu" else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    free = visible_devices([one.free_bytes for one in gpus], visible)
    host = free_host_bytes()
    if free or device == "cuda":
        least = min(free, default=None)
        count = len(free)
        return Devices("cuda", count, least, node_cores=cores, host_bytes=host, node_gpus=(count,))
    return Devices("cpu", cores, host, node_cores=cores, host_bytes=host)


def free_host_bytes() -> int:
    """The memory of this machine that is free, or would be if it were asked for."""
    return int(psutil.virtual_memory().available)


class GpuMemory(NamedTuple):
    """The memory of a GPU."""

    free_bytes: int
    total_bytes: int


def gpu_memory() -> list[GpuMemory]:
    """The memory of each GPU of this machine, whether this process may use it or not."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # no driver: this machine has no GPU that could be used
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        found = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        return [GpuMemory(int(one.free), int(one.total)) for one in found]
    finally:
        pynvml.nvmlShutdown()


def visible_devices(free: Sequence[int], visible: str | None) -> list[int]:
    """What CUDA leaves a process of a machine's devices.

    Args:
        free: bytes, by device.
        visible: `CUDA_VISIBLE_DEVICES`: places or UUIDs, up to the first that is none; None where
            it is not set.
    """
    if visible is None:
        return list(free)
    chosen = []
    for part in (part.strip() for part in visible.split(",")):
        if part.isdigit() and int(part) < len(free):
            chosen.append(free[int(part)])
        elif part.startswith(("GPU-", "MIG-")) and free:
            # Named by UUID, its place is not known: the least free memory of all stands for it.
            chosen.append(min(free))
        else:
            break
    return chosen


def divide(devices: Devices, actors: int) -> Capacity:
    """Divides devices among actors: GPUs as they are, or the cores as equal threads.

    Args:
        actors: how many could work at once, at least 1.
    """
    count = max(1, min(actors, devices.count))
    if devices.kind == "cuda":
        return Capacity(actors=count, gpus=devices.count, threads=1)
    threads = max(1, min(devices.count // count, devices.node_cores))
    return Capacity(actors=count, gpus=0, threads=threads)
