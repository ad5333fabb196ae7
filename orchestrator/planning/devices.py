"""What this machine or a cluster has to run models on, and what a sweep may use of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil

from orchestrator.contract.shards import DeviceChoice, DeviceKind

# Models with fewer weights are not worth a GPU.
_SMALL_ELEMENTS = 20_000_000
_ANY_CAPABILITY = (99, 0)


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
        capability: for computing, of the least of the GPUs; None where not known.
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
    capability: tuple[int, int] | None = None

    @property
    def best_case(self) -> tuple[int, int] | None:
        """The capability to plan with: where it is not known, any; None on processors."""
        if self.kind == "cpu":
            return None
        return _ANY_CAPABILITY if self.capability is None else self.capability

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
    gpus = gpus_here() if device != "cpu" else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    free = visible_devices([one.free_bytes for one in gpus], visible)
    host = free_host_bytes()
    if free or device == "cuda":
        least = min(free, default=None)
        count = len(free)
        return Devices(
            "cuda",
            count,
            least,
            node_cores=cores,
            host_bytes=host,
            node_gpus=(count,),
            capability=min((one.capability for one in gpus), default=None),
        )
    return Devices("cpu", cores, host, node_cores=cores, host_bytes=host)


def free_host_bytes() -> int:
    """The memory of this machine that is free, or would be if it were asked for."""
    return int(psutil.virtual_memory().available)


class Gpu(NamedTuple):
    """A GPU: its memory, and its capability for computing."""

    free_bytes: int
    total_bytes: int
    capability: tuple[int, int]


def gpus_here() -> list[Gpu]:
    """Each GPU of this machine, whether this process may use it or not."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # no driver: this machine has no GPU that could be used
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return [_gpu(pynvml, handle) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(int(memory.free), int(memory.total), (int(major), int(minor)))


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
