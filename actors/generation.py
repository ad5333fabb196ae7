"""Prompts → timed answers."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from orchestrator.contract.shards import Prompt


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
        token_ids: what follows the prompt, an end-of-sequence token included.
        seconds: wall time of the whole call, prompt processing included.
        finish_reason: `stop`, `length` or `error`.
        error: what went wrong, where something did.
    """

    text: str
    token_ids: list[int]
    seconds: float
    finish_reason: str
    error: str | None = None

    @property
    def success(self) -> bool:
        """Ended without an error and produced text."""
        return self.error is None and bool(self.text.strip())


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


def answer_prompt(
    model: Any, tokenizer: Any, prompt: Prompt, max_new_tokens: int, device: torch.device
) -> Answer:
    """Generates greedily, a batch of one, the device idle before and after.

    An error of the prompt is part of the answer; an error of the device (out of memory, a failed
    kernel) is raised, since the next prompt would meet it too.

    Args:
        model: one that `prepare_generation` has seen.
    """
    inputs = torch.tensor([prompt.input_ids], device=device)
    watch = _LogitsWatch(device)
    _synchronize(device)
    begin = time.perf_counter()
    try:
        output = _generate(model, inputs, max_new_tokens, watch)
    except (ValueError, IndexError, TypeError) as error:
        seconds = time.perf_counter() - begin
        return Answer("", [], seconds, "error", f"{type(error).__name__}: {error}")
    _synchronize(device)
    seconds = time.perf_counter() - begin
    new_ids = output[0, inputs.shape[1] :].tolist()
    ended = bool(new_ids) and new_ids[-1] in _ids(model.generation_config.eos_token_id)
    return Answer(
        text=tokenizer.decode(new_ids, skip_special_tokens=True),
        token_ids=new_ids,
        seconds=seconds,
        finish_reason="error" if watch.broken else "stop" if ended else "length",
        error="its logits are not finite numbers" if watch.broken else None,
    )


def warm_up(
    model: Any, tokenizer: Any, prompt: Prompt, max_new_tokens: int, device: torch.device
) -> None:
    """Answers a prompt in full, so that no measured one pays for first-use set-up.

    A few tokens are not enough: a GPU loads its kernels when a shape first needs them, which took
    seconds of a first answer that a warm-up of four tokens had preceded.
    """
    answer_prompt(model, tokenizer, prompt, max_new_tokens, device)


class _LogitsWatch(LogitsProcessor):
    """Notes on the device, without waiting for it, whether any logits were not numbers.

    The largest of them would be taken for the answer's next token all the same. Minus infinity is
    how some models rule a token out.
    """

    def __init__(self, device: torch.device) -> None:
        self._broken = torch.zeros((), dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # The largest is NaN where any is, and infinite where one is.
        self._broken |= ~scores.amax().isfinite()
        return scores

    @property
    def broken(self) -> bool:
        """Whether there were any; waits for the device."""
        return bool(self._broken)


@torch.inference_mode()
def _generate(
    model: Any, inputs: torch.Tensor, max_new_tokens: int, watch: _LogitsWatch
) -> torch.Tensor:
    output: torch.Tensor = model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=max_new_tokens,
        logits_processor=LogitsProcessorList([watch]),
    )
    return output


def _ids(tokens: Any) -> list[int]:
    """Token ids as configurations give them: one, several, or none."""
    several = tokens if isinstance(tokens, list) else [tokens]
    return [token for token in several if isinstance(token, int)]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
