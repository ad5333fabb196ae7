"""A loaded model with all that works on its shards, and what loading it took."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from actors.checks import check_causal
from actors.device_memory import capability_of, context_bytes, device_bytes
from actors.generation import Generator
from actors.kernels import kernel_of, linear_of
from actors.loading import load_model, load_tokenizer, origin_of, prepare_arithmetic
from actors.roofline import roofline_of
from actors.streaming import stream_layers
from actors.throughput import BatchRunner
from actors.weight_noise import noised
from actors.weights import weight_bytes
from actors.windows import WindowRunner
from actors.worst_token_texts import decoder
from orchestrator.contract.kernels import is_emulated
from orchestrator.contract.shards import Assignment
from orchestrator.contract.variants import Variant


@dataclass(frozen=True)
class HeldModel:
    """A model of transformers on its device.

    Attributes:
        windows: scores windows with it.
        generator: answers prompts with it.
        batches: decodes batches of prompts with it.
        loading: the row of the stage `loading`, less `variant`.
        linear: what most of its linear layers are.
    """

    variant: Variant
    device: torch.device
    model: Any
    tokenizer: Any
    windows: WindowRunner
    generator: Generator
    batches: BatchRunner
    loading: dict[str, Any]
    linear: str | None


def hold_model(assignment: Assignment) -> HeldModel:
    """Loads a model, checks it and measures what it takes.

    Raises:
        CannotLoadError: the variant cannot be had on this device, or is no causal language model;
            the message says why.
    """
    torch.set_num_threads(assignment.threads)
    variant, placement = assignment.variant, assignment.placement
    device, dtype = torch.device(placement.device), getattr(torch, assignment.compute_dtype)
    is_streamed = placement.kind == "stream"
    with noised(assignment) as (location, noise):
        begin = time.perf_counter()
        loaded_to = torch.device("cpu") if is_streamed else device
        emulated = is_emulated(variant, assignment.compute_dtype, capability_of(device))
        model = load_model(location, variant, loaded_to, max(1, placement.gpus), emulated=emulated)
    measured = weight_bytes(model)
    prepare_arithmetic(model, dtype)
    if is_streamed:
        stream_layers(origin_of(assignment.location, variant), model, device)
    tokenizer = load_tokenizer(assignment.location)
    generator = Generator(model, tokenizer, device)
    loading: dict[str, Any] = {
        "weights_bytes": measured.total,
        **{f"{kind}_weights_bytes": count for kind, count in asdict(measured).items()},
        **device_bytes(device),
        "load_seconds": time.perf_counter() - begin,
        "noise_sigma": None if noise is None else noise.sigma,
        "codes_changed_share": None if noise is None else noise.codes_changed_share,
    }
    # Only now: what has run once is held in another way by LLM.int8.
    check_causal(origin_of(assignment.location, variant), model, device)
    loading["running_weights_bytes"] = weight_bytes(model).total
    loading["kernel"] = kernel_of(model, variant, device)
    roofline = roofline_of(model, device)
    loading |= {name: value for name, value in asdict(roofline).items() if name != "problems"}
    loading["unmeasured"] = "; ".join(roofline.problems) or None
    at_once = variant.tokens_are_independent
    windows = WindowRunner(model, device, decoder(tokenizer), at_once=at_once)
    loading["vocabulary"] = windows.vocabulary
    batches = BatchRunner(generator, device, roofline.cache_bytes_per_token)
    # What the context takes grows with the kernels that have run.
    loading["device_context_bytes"] = context_bytes(device)
    linear = linear_of(model)
    return HeldModel(
        variant, device, model, tokenizer, windows, generator, batches, loading, linear
    )
