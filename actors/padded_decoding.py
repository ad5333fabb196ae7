"""Greedy answers to several prompts at once, the shorter ones padded; not timed.

Where a step takes as long for many prompts as for one, as that of a model whose layers have yet to
come. Padding rounds in another way than a prompt by itself does.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from actors.decoding import Decoded, LogitsWatch, end_tokens


class PaddedDecoder:
    """transformers' `generate`, a batch of prompts of any lengths.

    Args:
        model: one that `actors.decoding.prepare_generation` has seen.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._ends = end_tokens(model)

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Decoded]:
        """Answers prompts of token ids, each up to a token that ends it; no times are given."""
        inputs, mask = self._padded(prompts)
        watch = LogitsWatch(self._device, rows=len(prompts))
        output = self._model.generate(
            input_ids=inputs,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList([watch]),
        )
        answers = output[:, inputs.shape[1] :].tolist()
        return [
            Decoded(self._ended(tokens), [], broken)
            for tokens, broken in zip(answers, watch.broken_rows, strict=True)
        ]

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as rows that end alike, and which of their places are tokens."""
        length = max(map(len, prompts))
        padding = self._model.generation_config.pad_token_id
        ids = [[padding] * (length - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    def _ended(self, tokens: list[int]) -> list[int]:
        """An answer without what follows its end, which others had yet to reach."""
        ends = (place for place, token in enumerate(tokens) if token in self._ends)
        return tokens[: next(ends, len(tokens)) + 1]
