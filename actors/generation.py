"""Prompts → timed answers."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from orchestrator.contract.shards import Prompt


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
        new_tokens: tokens after the prompt, an end-of-sequence token included.
        seconds: wall time of the whole call, prompt processing included.
        finish_reason: `stop`, `length` or `error`.
        error: what went wrong, where something did.
    """

    text: str
    new_tokens: int
    seconds: float
    finish_reason: str
    error: str | None = None

    @property
    def success(self) -> bool:
        """Ended without an error and produced text."""
        return self.error is None and bool(self.text.strip())


def answer_prompt(
    model: Any, tokenizer: Any, prompt: Prompt, max_new_tokens: int, device: torch.device
) -> Answer:
    """Generates greedily, a batch of one, the device idle before and after.

    An error of the prompt is part of the answer; an error of the device (out of memory, a failed
    kernel) is raised, since the next prompt would meet it too.
    """
    config = greedy_config(model, max_new_tokens)
    inputs = torch.tensor([prompt.input_ids], device=device)
    _synchronize(device)
    begin = time.perf_counter()
    try:
        output = _generate(model, inputs, config)
    except (ValueError, IndexError, TypeError) as error:
        seconds = time.perf_counter() - begin
        return Answer("", 0, seconds, "error", f"{type(error).__name__}: {error}")
    _synchronize(device)
    seconds = time.perf_counter() - begin
    new_ids = output[0, inputs.shape[1] :].tolist()
    ended = bool(new_ids) and new_ids[-1] in _end_ids(config)
    return Answer(
        text=tokenizer.decode(new_ids, skip_special_tokens=True),
        new_tokens=len(new_ids),
        seconds=seconds,
        finish_reason="stop" if ended else "length",
    )


def warm_up(
    model: Any, tokenizer: Any, prompt: Prompt, max_new_tokens: int, device: torch.device
) -> None:
    """Answers a prompt in full, so that no measured one pays for first-use set-up.

    A few tokens are not enough: a GPU loads its kernels when a shape first needs them, which took
    seconds of a first answer that a warm-up of four tokens had preceded.
    """
    answer_prompt(model, tokenizer, prompt, max_new_tokens, device)


def greedy_config(model: Any, max_new_tokens: int) -> GenerationConfig:
    """Greedy decoding with the model's own end tokens and nothing else of its preferences."""
    end = model.generation_config.eos_token_id
    pad = model.generation_config.pad_token_id
    if pad is None:
        pad = end[0] if isinstance(end, list) else end
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=end,
        pad_token_id=pad,
        bos_token_id=model.generation_config.bos_token_id,
    )


@torch.inference_mode()
def _generate(model: Any, inputs: torch.Tensor, config: GenerationConfig) -> torch.Tensor:
    output: torch.Tensor = model.generate(
        input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=config
    )
    return output


def _end_ids(config: GenerationConfig) -> list[int]:
    end = config.eos_token_id
    return list(end) if isinstance(end, list) else [] if end is None else [end]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
