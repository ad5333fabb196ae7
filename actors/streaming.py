"""A model whose layers lie in the host's memory and come to its device one after the other.

While one layer computes, the next is copied, on a stream of its own: on a GPU a batch of some
thousand tokens hides the way of a layer. Kernels and batches are those of a model that is on the
device whole, so that the figures are the same bit for bit.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from orchestrator.contract.shards import SLAB_ALIGNMENT, STREAM_SLOTS
from orchestrator.contract.variant_errors import CannotLoadError


@dataclass
class _Layer:
    """A layer in the host's memory, and where it would be in each slot.

    Attributes:
        slab: all of its parameters, `[bytes]`.
        at_home, in_slots: the parameters' tensors in the slab; in each slot.
    """

    parameters: list[torch.nn.Parameter]
    slab: torch.Tensor
    at_home: list[torch.Tensor]
    in_slots: list[list[torch.Tensor]] = field(default_factory=list)

    def point_to(self, tensors: Sequence[torch.Tensor]) -> None:
        """Has the parameters be these tensors."""
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.data = tensor


def stream_layers(origin: str, model: Any, device: torch.device) -> None:
    """Leaves a model's layers on the host, and has the rest of it on a device.

    The layers are the modules that transformers keeps together on one device. What several of them
    share is not theirs, and goes to the device as well.

    Args:
        origin: what was loaded, for the message.
        model: on the host, in the dtypes that it computes in.

    Raises:
        CannotLoadError: the architecture does not say what its layers are.
    """
    layers = _layers_of(model)
    if not layers:
        raise CannotLoadError(
            f"{origin} cannot be streamed: its architecture does not say what its layers are; take "
            "--placement device"
        )
    own = _own_parameters(model, layers)
    streamed = {id(parameter) for parameters in own for parameter in parameters}
    for parameter in model.parameters():
        if id(parameter) not in streamed:
            parameter.data = parameter.data.to(device)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    held = [_on_the_host(parameters, device) for parameters in own]
    stream = _Stream(held, device)
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, number=number: stream.bring(number))
        layer.register_forward_hook(lambda *_, number=number: stream.release(number))


class _Stream:
    """Brings layers into slots of a device, each while the one before it computes."""

    def __init__(self, layers: list[_Layer], device: torch.device) -> None:
        self._layers = layers
        self._device = device
        largest = max(len(layer.slab) for layer in layers)
        slots = min(STREAM_SLOTS, len(layers))
        self._slots = [torch.empty(largest, dtype=torch.uint8, device=device) for _ in range(slots)]
        for layer in layers:
            layer.in_slots = [_views(slot, layer.parameters) for slot in self._slots]
        # By slot: the layer that is there or on its way; and when it is there.
        self._there: list[int | None] = [None] * slots
        self._arrived = [torch.cuda.Event() for _ in self._slots] if device.type == "cuda" else []
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def bring(self, number: int) -> None:
        """Has a layer's parameters be on the device for whatever is queued from now on."""
        if number not in self._there:
            # The first time, and where layers come in another order.
            self._fetch(number, slot=0)
        slot = self._there.index(number)
        if self._copies is not None:
            torch.cuda.current_stream(self._device).wait_event(self._arrived[slot])
        self._layers[number].point_to(self._layers[number].in_slots[slot])
        following = (number + 1) % len(self._layers)
        if following not in self._there:
            self._fetch(following, slot=(slot + 1) % len(self._slots))

    def release(self, number: int) -> None:
        """A layer's work is queued: another one may have its slot once that is done."""
        layer = self._layers[number]
        layer.point_to(layer.at_home)
        after_next = (number + len(self._slots)) % len(self._layers)
        if after_next not in self._there:
            self._fetch(after_next, slot=self._there.index(number))

    def _fetch(self, number: int, slot: int) -> None:
        """Queues a layer's way into a slot, behind all work that is queued by now."""
        self._there[slot] = number
        slab, target = self._layers[number].slab, self._slots[slot]
        if self._copies is None:
            target[: len(slab)].copy_(slab)
            return
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            target[: len(slab)].copy_(slab, non_blocking=True)
            self._arrived[slot].record(self._copies)


def _layers_of(model: Any) -> list[torch.nn.Module]:
    """The outermost modules of the classes that are kept whole, in order."""
    names = set(model._no_split_modules or ())
    found: list[torch.nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if type(module).__name__ in names and id(module) not in inside:
            found.append(module)
            inside |= {id(part) for part in module.modules()}
    return found


def _own_parameters(
    model: Any, layers: Sequence[torch.nn.Module]
) -> list[list[torch.nn.Parameter]]:
    """By layer, the parameters that no other place of the model has."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [[one for one in layer.parameters() if uses[id(one)] == 1] for layer in layers]


def _on_the_host(parameters: list[torch.nn.Parameter], device: torch.device) -> _Layer:
    """Moves a layer's parameters into one slab of the host's memory, from which a GPU can read."""
    slab = _slab(sum(map(_room, parameters)), pinned=device.type == "cuda")
    home = _views(slab, parameters)
    for place, parameter in zip(home, parameters, strict=True):
        place.copy_(parameter.data)
    layer = _Layer(parameters, slab, home)
    if slab.is_pinned():
        weakref.finalize(layer, _unpin, slab.data_ptr()).atexit = False
    # What held them before is free from here on.
    layer.point_to(home)
    return layer


def _slab(size: int, *, pinned: bool) -> torch.Tensor:
    """Bytes of the host; pinned as they are, since torch would round their number up to a power
    of two.
    """
    slab = torch.empty(size, dtype=torch.uint8)
    if pinned and size:
        runtime: Any = torch.cuda.cudart()
        torch.cuda.check_error(int(runtime.cudaHostRegister(slab.data_ptr(), size, 0)))
    return slab


def _unpin(address: int) -> None:
    """Has the host's memory be as before, once nothing reads it any more."""
    torch.cuda.synchronize()
    runtime: Any = torch.cuda.cudart()
    runtime.cudaHostUnregister(address)


def _room(parameter: torch.nn.Parameter) -> int:
    return -(-parameter.nbytes // SLAB_ALIGNMENT) * SLAB_ALIGNMENT


def _views(slab: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The places of parameters in a slab, as tensors of their dtypes and shapes."""
    found, begin = [], 0
    for parameter in parameters:
        part = slab[begin : begin + parameter.nbytes]
        found.append(part.view(parameter.dtype).view(parameter.shape))
        begin += _room(parameter)
    return found
