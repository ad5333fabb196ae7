"""Inputs → the pieces of work of each stage, the same for every variant. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from orchestrator.contract.shards import (
    DecodingName,
    LoadingPayload,
    NoisePayload,
    Payload,
    Prompt,
    PromptsPayload,
    TeacherForcedPayload,
    ThroughputPayload,
    Window,
    WindowsPayload,
)
from orchestrator.inputs.sources import Inputs
from orchestrator.settings import Settings

# The noise floor is measured on so many windows, and so many of their first tokens: enough for an
# interval, and little beside a sweep; attention that keeps all its scores takes memory by the
# square of the length.
_NOISE_WINDOWS = 8
_NOISE_TOKENS = 512


@dataclass(frozen=True)
class Piece:
    """What variants have a shard of: the payload's number in its stage, and its hash."""

    index: int
    payload: Payload
    digest: str

    @property
    def stage(self) -> str:
        """Which stage it is a part of."""
        return self.payload.stage


def make_pieces(
    inputs: Inputs, settings: Settings, decodings: tuple[DecodingName, ...]
) -> list[Piece]:
    """Every stage's pieces, in order; the cut depends on the inputs alone, on no device.

    Args:
        decodings: the ways in which prompts are answered.
    """
    batch = inputs.windows_at_once
    # Whole batches: then no cut into shards changes what is run together, and so rounds alike.
    step = -(-settings.shard_size // batch) * batch
    windows = [
        WindowsPayload(
            first_item=first, windows=inputs.corpus.windows[first : first + step], batch=batch
        )
        for first in range(0, len(inputs.corpus.windows), step)
    ]
    # One each: an answer takes as long as many windows, and a few would outlast all else. To score
    # them takes no time, and the device is as it was left only once for several.
    prompts = [
        PromptsPayload(
            first_item=number,
            prompts=(prompt,),
            max_new_tokens=settings.max_new_tokens,
            decodings=decodings,
            repeats=settings.repeats,
        )
        for number, prompt in enumerate(inputs.prompts)
    ]
    noise = noise_payloads(inputs.corpus.windows)
    forced = [
        TeacherForcedPayload(
            first_item=first,
            prompts=inputs.prompts[first : first + settings.shard_size],
            max_new_tokens=settings.max_new_tokens,
        )
        for first in range(0, len(inputs.prompts), settings.shard_size)
    ]
    throughput = [
        ThroughputPayload(
            prompts=batch_of(inputs.prompts, size),
            new_tokens=settings.max_new_tokens,
            decodings=decodings,
            repeats=settings.repeats,
        )
        for size in settings.batch_sizes
    ]
    stages: tuple[Sequence[Payload], ...] = (
        [LoadingPayload()],
        windows,
        noise,
        # Before more answers: what the others need is made as soon as it can be.
        forced,
        prompts,
        throughput,
    )
    return [
        Piece(index, payload, hashlib.sha256(payload.model_dump_json().encode()).hexdigest())
        for payloads in stages
        for index, payload in enumerate(payloads)
    ]


def batch_of(prompts: Sequence[Prompt], size: int) -> tuple[tuple[int, ...], ...]:
    """A batch of prompts, all as long as the prompts are on average, so that none is padded.

    Each is cut to that length, or goes on with its own beginning; where there are too few, they
    come again. What they say is of no account here.

    Args:
        prompts: at least one.
    """
    length = -(-sum(len(prompt.input_ids) for prompt in prompts) // len(prompts))
    ids = (prompts[number % len(prompts)].input_ids for number in range(size))
    return tuple(tuple(islice(cycle(one), length)) for one in ids)


def noise_payloads(windows: Sequence[Window]) -> list[NoisePayload]:
    """What the noise floor is measured on: windows spread evenly over the corpus.

    All their tokens but the first are scored, whatever the protocol scores.

    Returns:
        One payload; none where there is no window of two tokens or more.
    """
    usable = [number for number, window in enumerate(windows) if len(window.input_ids) > 1]
    count = min(_NOISE_WINDOWS, len(usable))
    numbers = tuple(usable[place * len(usable) // count] for place in range(count))
    cut = (Window.scored_from(windows[n].input_ids[:_NOISE_TOKENS], 1) for n in numbers)
    return [NoisePayload(numbers=numbers, windows=tuple(cut))] if numbers else []
