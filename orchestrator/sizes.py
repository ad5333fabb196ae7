"""Arithmetic of weights: a checkpoint's tensors and a variant → bytes. Pure."""

import math
from collections.abc import Sequence

from orchestrator.models import TensorShape
from orchestrator.variants import DTYPE_BYTES, Variant

# Names of the tables that look like linear layers in a checkpoint but are looked up, and of the
# output head, which bitsandbytes leaves as it is.
_NOT_QUANTIZED = frozenset(
    {
        "embed_in",
        "embed_out",
        "embed_positions",
        "embed_tokens",
        "lm_head",
        "position_embeddings",
        "tok_embeddings",
        "word_embeddings",
        "wpe",
        "wte",
    }
)

_BLOCK = 64  # weights that share one scale in bitsandbytes' 4-bit formats
_SCALE_BLOCK = 256  # scales that share one scale under double quantization
_CODE_BYTES = 16 * 4  # the 16 values of a 4-bit code, one float32 table a layer
_SCALE_CODE_BYTES = 256 * 4  # the 256 values of the scales' 8-bit code, likewise


def is_quantized(tensor: TensorShape, variant: Variant) -> bool:
    """Whether a variant quantizes this tensor: a linear layer's weight, the head apart."""
    parts = tensor.name.split(".")
    return (
        variant.kind == "bitsandbytes"
        and len(tensor.shape) == 2
        and parts[-1] == "weight"
        and not _NOT_QUANTIZED.intersection(parts)
    )


def expected_weights_bytes(tensors: Sequence[TensorShape], variant: Variant) -> int:
    """The bytes that a variant's weights must take, scales included.

    Source: bitsandbytes' formats. LLM.int8 (Dettmers et al., 2022): a byte a weight and a float32
    scale an output row. 4 bits (QLoRA, Dettmers et al., 2023): half a byte a weight and a float32
    scale for 64 of them; double quantization keeps those scales in a byte each, with a float32
    scale for 256 of them and a float32 offset.
    """
    return sum(
        quantized_bytes(tensor, variant)
        if is_quantized(tensor, variant)
        else tensor.elements * DTYPE_BYTES[variant.weights_dtype]
        for tensor in tensors
    )


def resident_bytes(tensors: Sequence[TensorShape], variant: Variant, compute_dtype: str) -> int:
    """The bytes that the weights take while the model computes.

    What is not quantized is held in the dtype of the arithmetic.
    """
    return sum(
        quantized_bytes(tensor, variant)
        if is_quantized(tensor, variant)
        else tensor.elements * DTYPE_BYTES[compute_dtype]
        for tensor in tensors
    )


def quantized_bytes(tensor: TensorShape, variant: Variant) -> int:
    """The bytes of one quantized weight with its scales."""
    if variant.options.get("load_in_8bit"):
        rows = tensor.shape[0]
        return tensor.elements + 4 * rows
    blocks = math.ceil(tensor.elements / _BLOCK)
    if variant.options.get("bnb_4bit_use_double_quant"):
        scales = blocks + 4 * math.ceil(blocks / _SCALE_BLOCK) + 4 + _SCALE_CODE_BYTES
    else:
        scales = 4 * blocks
    return math.ceil(tensor.elements / 2) + scales + _CODE_BYTES
