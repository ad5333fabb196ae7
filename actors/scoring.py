"""Logits → log-likelihoods. Pure torch."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from orchestrator.contract.shards import Window

# Positions whose logits are held in float32 at once: 128 MiB at a vocabulary of 131,072.
_CHUNK_POSITIONS = 256


@torch.inference_mode()
def score_window(model: Any, window: Window, device: torch.device) -> torch.Tensor:
    """The negative log-likelihood of each scored token of a window.

    A window is a batch of its own: LLM.int8 chooses the columns that it keeps in half precision
    over the whole batch, so that a token's likelihood would depend on its neighbours in one.

    Args:
        model: a causal language model whose output has `logits` of shape `[1, length, vocabulary]`.
        window: the tokens, at most the model's maximum.
        device: where the model is.

    Returns:
        float64 `[scored tokens]` on the CPU, natural logarithm. The softmax is computed in
        float32 (cross-entropy of the logits, as every reference tool does).
    """
    inputs = torch.tensor([window.input_ids], device=device)
    targets = torch.tensor(window.target_ids, device=device)
    logits = model(input_ids=inputs, use_cache=False).logits[0]
    logits = logits[window.start : window.start + len(window.target_ids)]
    return negative_log_likelihood(logits, targets).to("cpu", torch.float64)


def negative_log_likelihood(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy by position, in float32 whatever the dtype of the logits.

    Args:
        logits: `[positions, vocabulary]`, any floating dtype.
        targets: int64 `[positions]`.

    Returns:
        float32 `[positions]`.
    """
    chunks = zip(
        torch.split(logits, _CHUNK_POSITIONS), torch.split(targets, _CHUNK_POSITIONS), strict=True
    )
    return torch.cat(
        [cross_entropy(chunk.float(), target, reduction="none") for chunk, target in chunks]
    )
