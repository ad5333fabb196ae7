"""Greedy decoding as most users run it, by transformers' `generate`, timed token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from actors.stopwatch import Stopwatch, synchronize
from orchestrator.contract.shards import DecodingName


@dataclass(frozen=True)
class Decoded:
    """What a model said.

    Attributes:
        token_ids: what follows the prompt, an end token included.
        token_seconds: of each of them, since the one before it; of the first, since the prompt.
        broken: whether any logits were not finite numbers.
    """

    token_ids: list[int]
    token_seconds: list[float]
    broken: bool


@dataclass(frozen=True)
class BatchDecoded:
    """What a model said to several prompts at once.

    Attributes:
        token_ids: by prompt, what follows it.
        step_seconds: of each step, a token a prompt; the first is the prompts' processing.
    """

    token_ids: list[list[int]]
    step_seconds: list[float]


class Decoder(Protocol):
    """A way to generate."""

    @property
    def name(self) -> DecodingName:
        """What the way is called."""
        ...

    def decode(self, prompt: Sequence[int], max_new_tokens: int) -> Decoded:
        """Answers a prompt of token ids, the device idle before and after."""
        ...

    def decode_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> BatchDecoded:
        """Answers prompts of one length at once, whatever would end an answer."""
        ...


def prepare_generation(model: Any, tokenizer: Any) -> None:
    """Makes a model's `generate` plain greedy decoding, whatever its files prefer.

    transformers fills what a call leaves open from the model's own `generation_config`:
    penalties, beams, suppressed or forced tokens, other return types. Nothing is left of it but
    the tokens that end an answer; the tokenizer's own is one as well, since chat templates end a
    turn with it.
    """
    ends = sorted({*_ids(model.generation_config.eos_token_id), *_ids(tokenizer.eos_token_id)})
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=ends or None,
        # A batch of one is never padded; left open, it is warned of at every answer.
        pad_token_id=ends[0] if ends else 0,
        bos_token_id=model.generation_config.bos_token_id,
    )


def end_tokens(model: Any) -> frozenset[int]:
    """The tokens that end an answer of a model that `prepare_generation` has seen."""
    return frozenset(_ids(model.generation_config.eos_token_id))


class EagerDecoder:
    """transformers' `generate`.

    Args:
        model: one that `prepare_generation` has seen.
    """

    name: DecodingName = "eager"

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device

    @torch.inference_mode()
    def decode(self, prompt: Sequence[int], max_new_tokens: int) -> Decoded:
        """Answers a prompt of token ids, the device idle before and after."""
        inputs = torch.tensor([prompt], device=self._device)
        watch = LogitsWatch(self._device)
        synchronize(self._device)
        clock = _TokenClock(self._device)
        output = self._model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList([watch]),
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        token_ids = output[0, inputs.shape[1] :].tolist()
        return Decoded(token_ids, clock.seconds(), watch.broken)

    @torch.inference_mode()
    def decode_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> BatchDecoded:
        """Answers prompts of one length at once, whatever would end an answer."""
        inputs = torch.tensor(prompts, device=self._device)
        endless = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, pad_token_id=0)
        synchronize(self._device)
        clock = _TokenClock(self._device, len(prompts))
        own, self._model.generation_config = self._model.generation_config, endless
        try:
            output = self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                stopping_criteria=StoppingCriteriaList([clock]),
            )
        finally:
            self._model.generation_config = own
        return BatchDecoded(output[:, inputs.shape[1] :].tolist(), clock.seconds())


class LogitsWatch(LogitsProcessor):
    """Notes on the device, without waiting for it, whether any logits were not numbers.

    The largest of them would be taken for the answer's next token all the same. Minus infinity is
    how some models rule a token out.

    Args:
        rows: answers that are made at once.
    """

    def __init__(self, device: torch.device, rows: int = 1) -> None:
        # The largest is NaN where any is, and infinite where one is; so is then their sum, which
        # takes two operations a token where a look at each would take seven.
        self._sums = torch.zeros(rows, dtype=torch.float32, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.look(scores)
        return scores

    def look(self, scores: torch.Tensor) -> None:
        """Takes in the logits of a step, `[rows, …]` in float32."""
        self._sums += scores.flatten(1).amax(1)

    def clear(self) -> None:
        """Forgets all steps so far."""
        self._sums.zero_()

    @property
    def broken(self) -> bool:
        """Whether there were any since `clear`; waits for the device."""
        return any(self.broken_rows)

    @property
    def broken_rows(self) -> list[bool]:
        """The same by row."""
        return self._sums.isfinite().logical_not().tolist()


class _TokenClock(StoppingCriteria):
    """Stops nothing: it is asked after each token, and notes when."""

    def __init__(self, device: torch.device, batch: int = 1) -> None:
        self._go_on = torch.zeros(batch, dtype=torch.bool, device=device)
        self._clock = Stopwatch(device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.BoolTensor:
        self._clock.mark()
        return self._go_on  # type: ignore[return-value]

    def seconds(self) -> list[float]:
        """Of each token, since the one before it; waits for the device."""
        return self._clock.seconds()


def _ids(tokens: Any) -> list[int]:
    """Token ids as configurations give them: one, several, or none."""
    several = tokens if isinstance(tokens, list) else [tokens]
    return [token for token in several if isinstance(token, int)]
