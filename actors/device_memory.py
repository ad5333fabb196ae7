"""Bytes of a device's memory."""

import gc
import os
from collections.abc import Callable

import torch

from orchestrator.contract.shards import DeviceKind

# What libraries keep for themselves: tables of codes, random states.
_LEFT_BYTES = 2**20


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """A GPU's capability for computing; None of a processor."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def wake(device: DeviceKind) -> None:
    """Has the driver of a device make this process's context, which takes a moment."""
    torch.empty(1, device=device)


def is_free(device: DeviceKind) -> bool:
    """Whether a device has back what models took that nothing refers to any more.

    Whatever can be freed is freed first, and the peak begins anew.
    """
    gc.collect()
    if device != "cuda":
        return True
    torch._C._cuda_clearCublasWorkspaces()
    give_back(torch.device(device))
    return _sum(torch.cuda.memory_allocated, torch.device(device)) <= _LEFT_BYTES


def give_back(device: torch.device) -> None:
    """Gives a device back what is kept for later use, and has the peaks begin anew."""
    if device.type == "cuda":
        in_use = _in_use(device)
        torch.cuda.empty_cache()
        for each in in_use:
            torch.cuda.reset_peak_memory_stats(each)


def device_bytes(device: torch.device) -> dict[str, int | None]:
    """What a device's memory holds now, and what it held at most since `forget_peaks`.

    Of a model that is on several devices it is their sum.

    Returns:
        The columns `device_*_bytes` of a table of a stage: what tensors take now, the most that
        they took, and the most that was reserved for them. None on a CPU.
    """
    return {
        "device_allocated_bytes": _sum_if_gpu(torch.cuda.memory_allocated, device),
        "device_peak_bytes": peak_bytes(device),
        "device_reserved_bytes": _sum_if_gpu(torch.cuda.max_memory_reserved, device),
    }


def peak_bytes(device: torch.device) -> int | None:
    """The most that tensors took of a device since `forget_peaks`; None on a CPU."""
    return _sum_if_gpu(torch.cuda.max_memory_allocated, device)


def forget_peaks(device: torch.device) -> None:
    """Has the peaks begin anew, at what is there now: what was done is not the model's use."""
    if device.type == "cuda":
        for each in _in_use(device):
            torch.cuda.reset_peak_memory_stats(each)


def _in_use(device: torch.device) -> list[int]:
    """A device, and the others that this process has memory of."""
    own = torch.cuda.current_device() if device.index is None else device.index
    every = range(torch.cuda.device_count())
    return [number for number in every if number == own or torch.cuda.memory_reserved(number)]


def _sum(of_device: Callable[[int], int], device: torch.device) -> int:
    return sum(map(of_device, _in_use(device)))


def _sum_if_gpu(of_device: Callable[[int], int], device: torch.device) -> int | None:
    return _sum(of_device, device) if device.type == "cuda" else None


def context_bytes(device: torch.device) -> int | None:
    """What this process takes of a device beside tensors: the CUDA context, kernels, libraries.

    By NVML, less what torch has reserved; of a model that is on several devices, their sum.

    Returns:
        None on a CPU, and where the driver does not say what this process alone takes.
    """
    if device.type != "cuda":
        return None
    found = list(map(_context_bytes, _in_use(device)))
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _context_bytes(device: int) -> int | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used = next((p.usedGpuMemory for p in processes if p.pid == os.getpid()), None)
        # A container may number its processes otherwise than the driver; alone, all is its own.
        if used is None and len(processes) <= 1:
            used = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used
    except pynvml.NVMLError:
        return None
    if used is None:
        return None
    return max(0, int(used) - torch.cuda.memory_reserved(device))
