"""Attention whose scores have a soft cap (Gemma 2): c · tanh(scores / c).

transformers' fused attention leaves the cap out without a word, and its plain one copies from the
host at each step, which a CUDA graph cannot hold.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

_NAME = "soft-capped"


def apply_soft_cap(model: Any) -> None:
    """Has a model whose configuration names a cap of its attention's scores apply it."""
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is None:
        return
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _whole_mask)
    model.set_attn_implementation(_NAME)


def _attend(
    _: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    softcap: float | None = None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """`[batch, heads, length, size]` → `[batch, length, heads, size]`, softmax in float32.

    Args:
        attention_mask: bool, true where a position is seen.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), None


def _whole_mask(*sizes: Any, **more: Any) -> torch.Tensor | None:
    """The mask of fused attention, which else may leave it to the kernel."""
    mask: torch.Tensor | None = sdpa_mask(*sizes, **{**more, "allow_is_causal_skip": False})
    return mask
