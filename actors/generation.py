"""Prompts → answers, and how long they take."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from actors.decoding import Decoded, Decoder, EagerDecoder, end_tokens, prepare_generation
from actors.graph_decoding import CannotCaptureError, GraphDecoder
from actors.padded_decoding import PaddedDecoder
from orchestrator.contract.shards import DecodingName, Prompt
from orchestrator.contract.stages import GenerationsPayload

# A GPU loads kernels when a shape first needs them; a prompt's length is one.
_WARM_UP_TOKENS = 2


@dataclass(frozen=True)
class Timing:
    """One time that a prompt was answered.

    Attributes:
        seconds: from the prompt to the last token.
        token_seconds: of each token, since the one before it; of the first, since the prompt.
        same_tokens: whether they are those of the answer that is kept.
    """

    decoding: DecodingName
    repeat: int
    seconds: float
    token_seconds: list[float]
    same_tokens: bool


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
        token_ids: what follows the prompt, an end-of-sequence token included.
        finish_reason: `stop`, `length` or `error`.
        error: what went wrong, where something did.
        timings: by way of decoding, and by repeat; none where it was made beside others.
        share_seconds: its share of the time of all that were made at once.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    error: str | None = None
    timings: list[Timing] = field(default_factory=list)
    share_seconds: float | None = None

    @property
    def success(self) -> bool:
        """Ended without an error and produced text."""
        return self.error is None and bool(self.text.strip())

    @property
    def seconds(self) -> float:
        """By the first way of decoding, the mean of its repeats."""
        if self.share_seconds is not None:
            return self.share_seconds
        times = [t.seconds for t in self.timings if t.decoding == self.timings[0].decoding]
        return sum(times) / len(times)


class Generator:
    """Answers prompts with one model, one at a time, the device idle before each; or all of a shard
    at once, and then none is timed.

    Attributes:
        graph_refusal: why it does not answer by a CUDA graph; None where it does or was not asked.
    """

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        prepare_generation(model, tokenizer)
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._ends = end_tokens(model)
        self._eager = EagerDecoder(model, device)
        self._padded = PaddedDecoder(model, device)
        self._graph: GraphDecoder | None = None
        self.graph_refusal: str | None = None
        # Ways of decoding with the lengths of prompts that they have met.
        self._warm: dict[str, set[int]] = {}

    def answers(self, payload: GenerationsPayload) -> Iterator[Answer]:
        """Answers each prompt of a shard, in every way and as often as the shard says."""
        if payload.together:
            yield from self._answers_together(payload.prompts, payload.max_new_tokens)
            return
        decoders = self._decoders(payload)
        for prompt in payload.prompts:
            yield self._answer(prompt, payload, decoders)

    def _decoders(self, payload: GenerationsPayload) -> list[Decoder]:
        """The ways that can be had of those that are asked for; eager where none can."""
        longest = max(len(prompt.input_ids) for prompt in payload.prompts)
        found: list[Decoder] = []
        for name in payload.decodings:
            decoder = self._eager if name == "eager" else self._graph_for(longest, payload)
            found += [] if decoder is None else [decoder]
        return found or [self._eager]

    def _graph_for(self, longest: int, payload: GenerationsPayload) -> Decoder | None:
        if self.graph_refusal is None:
            try:
                self._graph = self._graph or GraphDecoder(self._model, self._device)
                self._graph.prepare(longest + payload.max_new_tokens)
            except CannotCaptureError as error:
                self._graph, self.graph_refusal = None, str(error)
        return self._graph

    def _answers_together(self, prompts: Sequence[Prompt], max_new_tokens: int) -> Iterator[Answer]:
        """Where they cannot be answered at once, each by itself: the fault may be of one."""
        begin = time.perf_counter()
        try:
            ids = [prompt.input_ids for prompt in prompts]
            several = self._padded.decode(ids, max_new_tokens)
        except (ValueError, IndexError, TypeError) as error:
            if len(prompts) > 1:
                for prompt in prompts:
                    yield from self._answers_together([prompt], max_new_tokens)
                return
            yield _failed(error, share_seconds=time.perf_counter() - begin)
            return
        share = (time.perf_counter() - begin) / len(prompts)
        for decoded in several:
            yield self._kept(decoded, [], share)

    def batch_decoder(self, decoding: DecodingName, length: int, batch: int) -> Decoder:
        """A way to answer so many prompts at once, each with its answer of `length` tokens.

        Raises:
            CannotCaptureError: the step cannot be captured for them.
        """
        if decoding == "eager":
            return self._eager
        # Its cache is that of a whole batch: not kept beyond it.
        decoder = GraphDecoder(self._model, self._device)
        decoder.prepare(length, batch)
        return decoder

    def _answer(
        self, prompt: Prompt, payload: GenerationsPayload, decoders: list[Decoder]
    ) -> Answer:
        """An error of the prompt is part of the answer.

        One of the device (out of memory, a failed kernel) is raised: the next prompt would meet it.
        """
        kept: Decoded | None = None
        timings = []
        begin = time.perf_counter()
        try:
            for decoder in decoders:
                self._warm_up(decoder, prompt, payload.max_new_tokens)
                for repeat in range(payload.repeats):
                    begin = time.perf_counter()
                    decoded = decoder.decode(prompt.input_ids, payload.max_new_tokens)
                    kept = kept or decoded
                    timings.append(_timing(decoder.name, repeat, decoded, kept))
        except (ValueError, IndexError, TypeError) as error:
            seconds = time.perf_counter() - begin
            return _failed(error, [Timing(decoders[0].name, 0, seconds, [], same_tokens=True)])
        assert kept is not None
        return self._kept(kept, timings)

    def _kept(
        self, kept: Decoded, timings: list[Timing], share_seconds: float | None = None
    ) -> Answer:
        """What was said, as an answer."""
        ended = bool(kept.token_ids) and kept.token_ids[-1] in self._ends
        return Answer(
            text=self._tokenizer.decode(kept.token_ids, skip_special_tokens=True),
            token_ids=kept.token_ids,
            finish_reason="error" if kept.broken else "stop" if ended else "length",
            error="its logits are not finite numbers" if kept.broken else None,
            timings=timings,
            share_seconds=share_seconds,
        )

    def _warm_up(self, decoder: Decoder, prompt: Prompt, max_new_tokens: int) -> None:
        """Answers a prompt unmeasured, so that no measured answer pays for first-use set-up.

        The first one in full: a few tokens are not enough, since kernels are loaded as the cache
        grows, which took seconds of a first answer that a warm-up of four tokens had preceded.
        """
        met = self._warm.setdefault(decoder.name, set())
        length = len(prompt.input_ids)
        if length not in met:
            tokens = min(_WARM_UP_TOKENS, max_new_tokens) if met else max_new_tokens
            decoder.decode(prompt.input_ids, tokens)
            met.add(length)


def _failed(
    error: Exception, timings: Sequence[Timing] = (), share_seconds: float | None = None
) -> Answer:
    reason = f"{type(error).__name__}: {error}"
    return Answer("", [], "error", reason, list(timings), share_seconds)


def _timing(decoding: DecodingName, repeat: int, decoded: Decoded, kept: Decoded) -> Timing:
    return Timing(
        decoding=decoding,
        repeat=repeat,
        seconds=sum(decoded.token_seconds),
        token_seconds=decoded.token_seconds,
        same_tokens=decoded.token_ids == kept.token_ids,
    )
