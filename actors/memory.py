"""Bytes of a model's weights, and of a device."""

import gc
from collections.abc import Iterator
from typing import Any

import torch

# What libraries keep for themselves: tables of codes, random states.
_LEFT_BYTES = 2**20


def weights_bytes(model: Any) -> int:
    """The bytes that a model's weights take as they are held, quantization scales included.

    Storage is counted once where tensors share it: tied embeddings, shared code tables.
    """
    storages = {
        storage.data_ptr(): storage.nbytes()
        for storage in (tensor.untyped_storage() for tensor in held_tensors(model))
    }
    return sum(storages.values())


def held_tensors(model: Any) -> Iterator[torch.Tensor]:
    """The plain tensors that a model's weights are held in, whatever its layers keep them as."""
    for module in model.modules():
        passing = module._non_persistent_buffers_set
        buffers = (b for name, b in module._buffers.items() if name not in passing)
        for tensor in (*module._parameters.values(), *buffers):
            if tensor is not None:
                yield from parts_of(tensor)
        # LLM.int8 moves the scales from the weight to the layer's state at the first forward pass.
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if isinstance(scales, torch.Tensor):
            yield scales


def parts_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor with its scales, or the tensors that a subclass such as torchao's is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from parts_of(getattr(tensor, name))
    else:
        yield tensor
        yield from _quantization_tensors(tensor)


def _quantization_tensors(parameter: Any) -> Iterator[torch.Tensor]:
    scales = getattr(parameter, "SCB", None)
    if isinstance(scales, torch.Tensor):
        yield scales
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        for name in ("absmax", "code", "offset"):
            tensor = getattr(state, name, None)
            if isinstance(tensor, torch.Tensor):
                yield tensor
        # Double quantization: the scales' own scales.
        state = getattr(state, "state2", None)


def is_free(device: str) -> bool:
    """Whether a device has back what models took that nothing refers to any more.

    Whatever can be freed is freed first, and the peak begins anew.
    """
    gc.collect()
    if device != "cuda":
        return True
    torch._C._cuda_clearCublasWorkspaces()
    give_back(torch.device(device))
    return torch.cuda.memory_allocated() <= _LEFT_BYTES


def give_back(device: torch.device) -> None:
    """Gives a device back what is kept for later use, and has the peak begin anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    forget_peak(device)


def peak_bytes(device: torch.device) -> int | None:
    """The most device memory allocated since the process began, or `forget_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Has the peak begin anew, at what is allocated now: what was done is not the model's use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
