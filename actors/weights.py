"""Bytes of a model's weights, by what they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

# What quantized layers keep beside the weights themselves, by parts of their names: scales, zero
# points, code tables, the order of columns, shapes.
_SCALE_NAMES = ("scale", "zero", "absmax", "code", "offset", "scb", "g_idx", "shape")


@dataclass(frozen=True)
class WeightBytes:
    """What weights take as they are held; tensors that are the same memory are counted once.

    Attributes:
        quantized: numbers in fewer bits than any arithmetic has.
        scales: what makes weights of these: scales, zero points, tables of codes.
        embeddings: of the input embedding and the output head, quantized or not.
        other: layers that are not quantized, norms and biases.
    """

    quantized: int
    scales: int
    embeddings: int
    other: int

    @property
    def total(self) -> int:
        """The bytes of all kinds."""
        return self.quantized + self.scales + self.embeddings + self.other


def weight_bytes(model: Any) -> WeightBytes:
    """The bytes that a model's weights take as they are held, by kind."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    of_ends = {id(part) for end in ends if end is not None for part in end.modules()}
    counted = {"quantized": 0, "scales": 0, "embeddings": 0, "other": 0}
    seen = set()
    # The ends first: what they share with another layer is theirs.
    for module in sorted(model.modules(), key=lambda module: id(module) not in of_ends):
        held = list(_held_tensors(module))
        is_quantized = any(_is_packed(tensor) for _, tensor in held)
        for name, tensor in held:
            if tensor.data_ptr() in seen:
                continue
            seen.add(tensor.data_ptr())
            kind = "embeddings" if id(module) in of_ends else _kind(name, tensor, is_quantized)
            counted[kind] += tensor.nbytes
    return WeightBytes(**counted)


def parts_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor with its scales, or the tensors that a subclass such as torchao's is made of."""
    return (part for _, part in _named_parts("", tensor))


def _kind(name: str, tensor: torch.Tensor, in_quantized_layer: bool) -> str:
    last = name.rpartition(".")[2].lower()
    if not in_quantized_layer or last == "bias":
        return "other"
    named_so = any(part in last for part in _SCALE_NAMES)
    return "quantized" if _is_packed(tensor) and not named_so else "scales"


def _is_packed(tensor: torch.Tensor) -> bool:
    """Whether its numbers are integers, or floats of 8 bits or fewer."""
    return not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1


def _held_tensors(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that a module's own weights are held in, whatever it keeps them as."""
    passing = module._non_persistent_buffers_set
    buffers = ((name, b) for name, b in module._buffers.items() if name not in passing)
    for name, tensor in (*module._parameters.items(), *buffers):
        if tensor is not None:
            yield from _named_parts(name, tensor)
    # LLM.int8 moves the scales from the weight to the layer's state at the first forward pass.
    scales = getattr(getattr(module, "state", None), "SCB", None)
    if isinstance(scales, torch.Tensor):
        yield "SCB", scales


def _named_parts(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if hasattr(tensor, "__tensor_flatten__"):
        for part in tensor.__tensor_flatten__()[0]:
            yield from _named_parts(f"{name}.{part}", getattr(tensor, part))
    else:
        yield name, tensor
        yield from _quantization_tensors(name, tensor)


def _quantization_tensors(name: str, parameter: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What bitsandbytes keeps beside a weight."""
    scales = getattr(parameter, "SCB", None)
    if isinstance(scales, torch.Tensor):
        yield f"{name}.SCB", scales
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        for part in ("absmax", "code", "offset"):
            tensor = getattr(state, part, None)
            if isinstance(tensor, torch.Tensor):
                yield f"{name}.{part}", tensor
        # Double quantization: the scales' own scales.
        state = getattr(state, "state2", None)
