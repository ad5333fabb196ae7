"""Arithmetic of weights: a checkpoint's tensors and a variant → bytes. Pure."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from orchestrator.contract.formats import FORMATS
from orchestrator.contract.shards import SLAB_ALIGNMENT, STREAM_SLOTS
from orchestrator.contract.variants import (
    DTYPE_BYTES,
    CheckpointVariant,
    DtypeName,
    FormatVariant,
    FourBitVariant,
    Int8Variant,
    TileInt4Variant,
    TorchaoVariant,
    Variant,
    VariantKind,
)
from orchestrator.inputs.checkpoints import embedding_width
from orchestrator.inputs.tensor_roles import is_embedding, is_linear, role_of
from orchestrator.inputs.weight_files import TensorShape

# Methods whose package expands the weights when they are first used, in what transformers loads.
_EXPANDING = frozenset({"compressed-tensors"})

# Of a tensor's name, up to the number of its layer; and what makes keys and values.
_LAYER = re.compile(r"(?:[^.]+\.)*?\d+\.")
_KEYS_OR_VALUES = re.compile(r"\.(k_proj|v_proj|attn_k|attn_v)\.weight$")

# Of a process whose model is in the host's memory: libraries, and what must stay free there.
_HOST_OVERHEAD_BYTES = 2 * 2**30

# Of both models, with what is made of them: `actors.token_divergence.WORKSPACE_BYTES`.
_LOGITS_BYTES = 208 * 2**20

_BLOCK = 64  # weights that share one scale in bitsandbytes' 4-bit formats
_SCALE_BLOCK = 256  # scales that share one scale under double quantization
_CODE_BYTES = 16 * 4  # the 16 values of a 4-bit code, one float32 table a layer
_SCALE_CODE_BYTES = 256 * 4  # the 256 values of the scales' 8-bit code, likewise
_TILE_ROWS, _TILE_COLUMNS = 8, 1024  # of torchao's tiles
_INT8_BYTES = 12  # of LLM.int8's products and copies, for a number of the widest layer
_INPUTS_BYTES = 7  # of inputs as they are rounded, likewise


class StreamedBytes(NamedTuple):
    """What streamed weights take of a device, and of its host."""

    device: int
    host: int


def expected_weights_bytes(tensors: Sequence[TensorShape], variant: Variant) -> int | None:
    """The bytes that a variant's weights must take, scales included; None where not foreseen."""
    return HELD_BYTES[variant.kind](tensors, variant, variant.weights_dtype)


def resident_bytes(
    tensors: Sequence[TensorShape],
    variant: Variant,
    compute_dtype: DtypeName,
    emulated: bool = False,
    expanded: Sequence[TensorShape] = (),
) -> int | None:
    """The bytes that the weights take while the model computes; None where not foreseen.

    What is not quantized is held in the dtype of the arithmetic.

    Args:
        emulated: whether a device has no kernel of its format.
        expanded: what quantized weights are once they are expanded: the model's own tensors.
    """
    if emulated:
        return _plain_bytes(tensors, variant, compute_dtype)
    if isinstance(variant, CheckpointVariant) and variant.method in _EXPANDING:
        return _plain_bytes(expanded, variant, compute_dtype) if expanded else None
    return HELD_BYTES[variant.kind](tensors, variant, compute_dtype)


def streamed_bytes(tensors: Sequence[TensorShape], dtype: DtypeName) -> StreamedBytes:
    """What plain weights take whose layers come to the device one after the other."""
    layers, rest = _by_layer(tensors)
    slabs = [
        sum(
            math.ceil(tensor.elements * DTYPE_BYTES[dtype] / SLAB_ALIGNMENT) * SLAB_ALIGNMENT
            for tensor in layer
        )
        for layer in layers
    ]
    of_rest = sum(tensor.elements for tensor in rest) * DTYPE_BYTES[dtype]
    largest = max(slabs, default=0)
    # While it is loaded the host has all of it, and a layer twice.
    host = of_rest + sum(slabs) + largest + _HOST_OVERHEAD_BYTES
    return StreamedBytes(device=of_rest + min(STREAM_SLOTS, len(slabs)) * largest, host=host)


def largest_layer_bytes(tensors: Sequence[TensorShape], held_bytes: int) -> int:
    """What the largest layer takes of weights that take so much in all."""
    layers, rest = _by_layer(tensors)
    parts = [sum(tensor.elements for tensor in layer) for layer in layers]
    parts += [tensor.elements for tensor in rest]
    return held_bytes * max(parts, default=0) // max(1, sum(parts))


def _by_layer(
    tensors: Sequence[TensorShape],
) -> tuple[list[list[TensorShape]], list[TensorShape]]:
    """The tensors of each layer, and those that are of none."""
    layers: dict[str, list[TensorShape]] = {}
    rest = []
    for tensor in tensors:
        if (found := _LAYER.match(tensor.name)) is None:
            rest.append(tensor)
        else:
            layers.setdefault(found[0], []).append(tensor)
    return list(layers.values()), rest


def tokens_with_cache(tensors: Sequence[TensorShape], tokens: int) -> int:
    """How many tokens can be read at once, and their keys and values kept, in the room that a
    forward pass of so many takes by itself.

    Keys and values are as wide as what makes them, where that has weights of its own; else as two
    states a layer, as without groups of heads.
    """
    made = [tensor.shape[0] for tensor in tensors if _KEYS_OR_VALUES.search(tensor.name)]
    layers, _ = _by_layer(tensors)
    kept = sum(made) or 2 * len(layers) * embedding_width(tensors)
    working = _numbers_of_token(tensors)
    return tokens * working // (working + kept)


def activation_bytes(
    tensors: Sequence[TensorShape], tokens: int, dtype: DtypeName, variant: Variant
) -> int:
    """About what a forward pass takes beside the weights, of so many tokens at once.

    Four states of a token, and three of the widest layer, whose inputs and outputs live together;
    then the logits of a few positions. Of Mistral 7B's shape, 8,192 tokens at once took 0.94 GiB
    on an H100, where this says 1.1. LLM.int8 has the inputs of a layer in 8 bits beside, in two
    orders, and its products in 32: of 2,048 tokens it took 0.34 GiB more on an H200. A format that
    rounds inputs has them in float32 and as they are rounded: of 8,192 tokens, 0.7 GiB more.
    """
    numbers = tokens * _numbers_of_token(tensors) * DTYPE_BYTES[dtype]
    beside = 0
    if isinstance(variant, Int8Variant):
        beside = _INT8_BYTES
    elif isinstance(variant, FormatVariant) and FORMATS[variant.format].activations is not None:
        beside = _INPUTS_BYTES
    return numbers + beside * tokens * _widest(tensors) + _LOGITS_BYTES


def head_bytes(tensors: Sequence[TensorShape], dtype: DtypeName) -> int:
    """What an output head takes: a table of its own, or the tied embedding."""
    heads = [tensor for tensor in tensors if role_of(tensor) == "head"]
    found = heads or [tensor for tensor in tensors if is_embedding(tensor)]
    return sum(tensor.elements * DTYPE_BYTES[dtype] for tensor in found)


def _numbers_of_token(tensors: Sequence[TensorShape]) -> int:
    """Of a token, the numbers that a forward pass holds at once."""
    return 4 * embedding_width(tensors) + 3 * _widest(tensors)


def _widest(tensors: Sequence[TensorShape]) -> int:
    return max((tensor.shape[0] for tensor in tensors if is_linear(tensor)), default=0)


def _plain_bytes(tensors: Sequence[TensorShape], _: Variant, dtype: DtypeName) -> int:
    return sum(tensor.elements * DTYPE_BYTES[dtype] for tensor in tensors)


def _int8_bytes(tensors: Sequence[TensorShape], _: Int8Variant, dtype: DtypeName) -> int:
    """A byte a weight and a float32 scale an output row (Dettmers et al., 2022)."""
    return _linear_bytes(tensors, dtype, lambda tensor: tensor.elements + 4 * tensor.shape[0])


def _four_bit_bytes(
    tensors: Sequence[TensorShape], variant: FourBitVariant, dtype: DtypeName
) -> int:
    """Half a byte a weight and a float32 scale for 64 of them (Dettmers et al., 2023).

    Double quantization keeps those scales in a byte each, with a float32 scale for 256 of them and
    a float32 offset.
    """

    def quantized(tensor: TensorShape) -> int:
        blocks = math.ceil(tensor.elements / _BLOCK)
        scales = 4 * blocks
        if variant.double_quantization:
            scales = blocks + 4 * math.ceil(blocks / _SCALE_BLOCK) + 4 + _SCALE_CODE_BYTES
        return math.ceil(tensor.elements / 2) + scales + _CODE_BYTES

    return _linear_bytes(tensors, dtype, quantized)


def _torchao_bytes(
    tensors: Sequence[TensorShape], variant: TorchaoVariant, dtype: DtypeName
) -> int:
    """A byte a weight, 4-bit ones as well; a scale and a byte for the zero of a row or group."""
    scale = 4 if variant.group_size is None else DTYPE_BYTES[dtype]

    def quantized(tensor: TensorShape) -> int:
        groups = tensor.shape[0]
        if variant.group_size is not None:
            groups = tensor.elements // variant.group_size
        return tensor.elements + (scale + 1) * groups

    return _linear_bytes(tensors, dtype, quantized)


def _tile_bytes(tensors: Sequence[TensorShape], variant: TileInt4Variant, dtype: DtypeName) -> int:
    """Half a byte a weight, and of each group a scale and a middle in bfloat16; rows are filled up
    to whole tiles.
    """

    def quantized(tensor: TensorShape) -> int:
        rows, columns = tensor.shape
        if columns % variant.group_size:
            return tensor.elements * DTYPE_BYTES[dtype]
        columns = math.ceil(columns / _TILE_COLUMNS) * _TILE_COLUMNS
        rows = math.ceil(rows / _TILE_ROWS) * _TILE_ROWS
        return rows * columns // 2 + 2 * 2 * rows * columns // variant.group_size

    return _linear_bytes(tensors, dtype, quantized)


def _format_bytes(tensors: Sequence[TensorShape], variant: FormatVariant, dtype: DtypeName) -> int:
    form = FORMATS[variant.format]

    def quantized(tensor: TensorShape) -> int:
        found = form.bytes_of(*tensor.shape)
        return tensor.elements * DTYPE_BYTES[dtype] if found is None else found

    return _linear_bytes(tensors, dtype, quantized)


def _checkpoint_bytes(
    tensors: Sequence[TensorShape], variant: CheckpointVariant, dtype: DtypeName
) -> int:
    """What is quantized is held as it lies in the file."""
    if variant.method is None:
        return _plain_bytes(tensors, variant, dtype)
    return sum(tensor.bytes for tensor in tensors)


def _linear_bytes(
    tensors: Sequence[TensorShape], dtype: DtypeName, quantized: Callable[[TensorShape], int]
) -> int:
    """The bytes where every linear layer's weight is quantized, the head apart."""
    return sum(
        quantized(tensor) if is_linear(tensor) else tensor.elements * DTYPE_BYTES[dtype]
        for tensor in tensors
    )


# By kind of variant: (tensors, variant, dtype of what is not quantized) → bytes, scales included,
# or None where the format's size is not known.
HELD_BYTES: dict[VariantKind, Callable[[Sequence[TensorShape], Any, DtypeName], int | None]] = {
    "plain": _plain_bytes,
    "llm-int8": _int8_bytes,
    "4-bit": _four_bit_bytes,
    "torchao": _torchao_bytes,
    "torchao-tile": _tile_bytes,
    "format": _format_bytes,
    "checkpoint": _checkpoint_bytes,
    "adapter": _plain_bytes,
    # Expanded when they are loaded.
    "gguf": _plain_bytes,
}
