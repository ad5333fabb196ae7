"""What a new token must read of a device's memory, and how fast that memory is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from actors.device_memory import give_back
from actors.graph_decoding import plain_cache
from actors.stopwatch import Stopwatch
from actors.weights import parts_of, weight_bytes
from orchestrator.contract.variant_errors import loading_problem

T = TypeVar("T")

# Beyond any cache of a GPU, and small beside its memory.
_COPY_BYTES = 512 * 2**20
_COPIES = 8
# How configurations of models with experts say how many there are.
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Roofline:
    """What the speed of a model's decoding is held against; None where it is not known.

    Attributes:
        problems: what could not be had, and why; a sweep goes on without.
    """

    read_weights_bytes: int | None
    cache_bytes_per_token: int | None
    device_copy_bytes_per_second: float | None
    problems: tuple[str, ...]


def roofline_of(model: Any, device: torch.device) -> Roofline:
    """Measures what it can."""
    problems: list[str] = []

    def tried(what: str, measure: Callable[[], T]) -> T | None:
        try:
            return measure()
        except Exception as error:  # of any architecture's code, about a figure that may be absent
            problems.append(f"{what} ({loading_problem(error)})")
            return None

    return Roofline(
        tried("the weights that a token reads", lambda: read_weights_bytes(model)),
        tried("the cache of a token", lambda: cache_bytes_per_token(model, device)),
        tried("the speed of the device's memory", lambda: copy_bytes_per_second(device)),
        tuple(problems),
    )


def read_weights_bytes(model: Any) -> int | None:
    """The bytes of its weights that a model reads for each new token, a batch of one.

    All of them but the input embedding, of which it is one row; where the output head is the same
    tensor, that is read whole.

    Returns:
        None for a model with experts, which a token reads some of.
    """
    config = model.config.get_text_config()
    if any(getattr(config, name, None) for name in _EXPERT_COUNTS):
        return None
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    # A quantized head may have no weight of that name.
    tied = getattr(head, "weight", None) is embedding
    unread = 0 if tied else sum(part.nbytes for part in parts_of(embedding))
    return weight_bytes(model).total - unread


@torch.inference_mode()
def cache_bytes_per_token(model: Any, device: torch.device) -> int | None:
    """The bytes of keys and values that a model keeps of each token; None for another cache."""
    cache = plain_cache(model)
    if cache is None:
        return None
    one = torch.zeros((1, 1), dtype=torch.int64, device=device)
    model(input_ids=one, past_key_values=cache, use_cache=True)
    kept = [(layer.keys, layer.values) for layer in cache.layers]
    # A model of another kind of memory leaves the cache as it was.
    if any(keys is None for keys, _ in kept):
        return None
    return sum(int(keys.nbytes + values.nbytes) for keys, values in kept)


def copy_bytes_per_second(device: torch.device) -> float | None:
    """How fast a device copies within its memory: bytes read and bytes written, a second.

    The fastest of some copies, as is usual for what a device can do (McCalpin's STREAM).

    Returns:
        None on a CPU, whose caches hold a good part of small models, and where no memory is free.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    size = min(_COPY_BYTES, free // 4)
    if size < _COPY_BYTES // 8:
        return None
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    clock = Stopwatch(device)
    for _ in range(_COPIES):
        target.copy_(source)
        clock.mark()
    fastest = min(clock.seconds())
    del source, target
    # The model is not to be charged with this.
    give_back(device)
    return 2 * size / fastest
