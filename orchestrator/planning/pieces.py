"""Inputs → the pieces of work of each stage, the same for every variant. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice

from orchestrator.contract.sampling import spread
from orchestrator.contract.shards import DecodingName, Payload, Prompt, Window
from orchestrator.contract.stages import (
    ON_A_DEVICE,
    STAGES,
    STREAMED,
    GenerationsPayload,
    LoadingPayload,
    NoisePayload,
    TeacherForcedPayload,
    ThroughputPayload,
    WindowsPayload,
)
from orchestrator.inputs.sources import Inputs
from orchestrator.planning.sizes import tokens_with_cache
from orchestrator.settings import Settings

# The noise floor reads at most so much of what the windows read, both passes together.
_NOISE_SHARE = 0.1
# Of so many windows the first tokens: enough for an interval, whatever that share leaves; attention
# that keeps all its scores takes memory by the square of the length.
_NOISE_WINDOWS = (2, 8)
_NOISE_TOKENS = (128, 512)


@dataclass(frozen=True)
class Piece:
    """What variants have a shard of: the payload's number in its stage, and its hash.

    Attributes:
        look: of windows, the look at the text that they belong to.
    """

    index: int
    payload: Payload
    digest: str
    look: int | None

    @property
    def stage(self) -> str:
        """Which stage it is a part of."""
        return self.payload.stage


@dataclass(frozen=True)
class Cut:
    """What pieces are cut from.

    Attributes:
        windows_at_once: how many may be in a batch.
        decodings: the ways in which prompts are answered.
        placement: where the variants live that the pieces are of.
    """

    inputs: Inputs
    settings: Settings
    windows_at_once: int
    decodings: tuple[DecodingName, ...]
    placement: str = ON_A_DEVICE

    @property
    def is_timed(self) -> bool:
        """Whether how long answers take is of interest."""
        return self.placement != STREAMED


def make_pieces(cut: Cut) -> list[Piece]:
    """Every stage's pieces, in order; they depend on no device but by how much is done at once."""
    return [
        Piece(
            index,
            payload,
            digest=hashlib.sha256(payload.model_dump_json().encode()).hexdigest(),
            look=_look_of(payload, cut.inputs.looks),
        )
        for stage in STAGES
        for index, payload in enumerate(PAYLOADS[stage](cut))
    ]


def _look_of(payload: Payload, looks: Sequence[Sequence[int]]) -> int | None:
    if not isinstance(payload, WindowsPayload):
        return None
    return next(number for number, look in enumerate(looks) if payload.numbers[0] in look)


def _loading(cut: Cut) -> list[LoadingPayload]:
    return [LoadingPayload(placement=cut.placement)]


def _windows(cut: Cut) -> list[WindowsPayload]:
    windows, batch = cut.inputs.corpus.windows, cut.windows_at_once
    # Whole batches: then no cut into shards changes what is run together, and so rounds alike.
    step = -(-cut.settings.shard_size // batch) * batch
    parts = [
        look[first : first + step]
        for look in cut.inputs.looks
        for first in range(0, len(look), step)
    ]
    return [
        WindowsPayload(numbers=part, windows=tuple(windows[n] for n in part), batch=batch)
        for part in parts
    ]


def _noise(cut: Cut) -> list[NoisePayload]:
    return noise_payloads(cut.inputs.corpus.windows, cut.inputs.looks[0])


def _teacher_forced(cut: Cut) -> list[TeacherForcedPayload]:
    """Several to a shard: to score answers takes no time, and a new stage costs a moment."""
    prompts, step = cut.inputs.prompts, cut.settings.shard_size
    return [
        TeacherForcedPayload(
            first_item=first,
            prompts=prompts[first : first + step],
            max_new_tokens=cut.settings.max_new_tokens,
        )
        for first in range(0, len(prompts), step)
    ]


def _generations(cut: Cut) -> list[GenerationsPayload]:
    """One each: an answer takes as long as many windows, and a few would outlast all else.

    Untimed, as many at once as take no more room than a batch of windows.
    """
    if not cut.is_timed:
        return _answered_together(cut)
    return [
        GenerationsPayload(
            first_item=number,
            prompts=(prompt,),
            max_new_tokens=cut.settings.max_new_tokens,
            decodings=cut.decodings,
            repeats=cut.settings.repeats,
            placement=cut.placement,
        )
        for number, prompt in enumerate(cut.inputs.prompts)
    ]


def _answered_together(cut: Cut) -> list[GenerationsPayload]:
    tensors = cut.inputs.model.checkpoint.tensors
    most = tokens_with_cache(tensors, cut.windows_at_once * cut.inputs.window_length)
    new = cut.settings.max_new_tokens
    groups: list[list[Prompt]] = []
    for prompt in cut.inputs.prompts:
        several = [*groups[-1], prompt] if groups else [prompt]
        longest = max(len(one.input_ids) for one in several)
        if groups and len(several) * (longest + new) <= most:
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    firsts = accumulate(map(len, groups), initial=0)
    return [
        GenerationsPayload(
            first_item=first, prompts=tuple(group), max_new_tokens=new, placement=cut.placement
        )
        for first, group in zip(firsts, groups, strict=False)
    ]


def _throughput(cut: Cut) -> list[ThroughputPayload]:
    sizes = cut.settings.batch_sizes if cut.is_timed else ()
    return [
        ThroughputPayload(
            prompts=batch_of(cut.inputs.prompts, size),
            new_tokens=cut.settings.max_new_tokens,
            decodings=cut.decodings,
            repeats=cut.settings.repeats,
            placement=cut.placement,
        )
        for size in sizes
    ]


# By stage: what its shards are given, in order.
PAYLOADS: dict[str, Callable[[Cut], Sequence[Payload]]] = {
    "loading": _loading,
    "windows": _windows,
    "noise": _noise,
    "teacher_forced": _teacher_forced,
    "generations": _generations,
    "throughput": _throughput,
}


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


def noise_payloads(windows: Sequence[Window], numbers: Sequence[int]) -> list[NoisePayload]:
    """What the noise floor is measured on: the first tokens of windows, evenly among those scored.

    All their tokens but the first are scored, whatever the protocol scores. Both passes read at
    most a tenth of what the windows have, but at least two windows of 128 tokens.

    Args:
        windows: of the whole text.
        numbers: of those that are scored.

    Returns:
        One payload; none where there is no window of two tokens or more.
    """
    # Asked for once: a window may be cut each time.
    lengths = {number: len(windows[number].input_ids) for number in numbers}
    usable = [number for number in numbers if lengths[number] > 1]
    tokens = sum(lengths[number] for number in usable)
    a_pass = int(_NOISE_SHARE * tokens / 2)
    (fewest, most), (shortest, longest) = _NOISE_WINDOWS, _NOISE_TOKENS
    count = min(max(fewest, min(most, a_pass // shortest)), len(usable))
    if not count:
        return []
    length = max(shortest, min(longest, a_pass // count))
    chosen = tuple(usable[place] for place in spread(len(usable), count))
    cut = (Window.scored_from(windows[n].input_ids[:length], 1) for n in chosen)
    return [NoisePayload(numbers=chosen, windows=tuple(cut))]
