"""A model's own arithmetic in another order: what rounding alone changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# The kernel that every model with attention has: plain products and a softmax.
_PLAIN_ATTENTION = "eager"


@dataclass(frozen=True)
class OtherOrder:
    """Another way to compute what a model computes.

    Attributes:
        name: what is other, for the report.
        copies: how often a window is in the batch.
        attention: the attention kernel; None for the model's own.
    """

    name: str
    copies: int
    attention: str | None


def other_order_of(model: Any) -> OtherOrder:
    """How a model's arithmetic is put into another order.

    By attention in plain operations, which rounds in other places; where that is what the model
    does anyway, or where it has no attention, by a batch of two, for which a device may choose
    other kernels.
    """
    own = model.config._attn_implementation
    has_attention = getattr(model.config.get_text_config(), "num_attention_heads", None)
    if has_attention and own not in (None, _PLAIN_ATTENTION):
        how = f"its attention by another kernel, {_PLAIN_ATTENTION} in place of {own}"
        return OtherOrder(how, 1, _PLAIN_ATTENTION)
    return OtherOrder("two copies in a batch", 2, None)


@contextmanager
def attention_by(model: Any, kernel: str | None) -> Iterator[None]:
    """Has a model use another attention kernel for a while; its own where that is None."""
    own = model.config._attn_implementation
    try:
        if kernel is not None:
            model.set_attn_implementation(kernel)
        yield
    finally:
        if kernel is not None:
            model.set_attn_implementation(own)
