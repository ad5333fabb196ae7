"""Quantizers of libraries, and back: float32 weights `[lines, weights of a line]` → the same."""

from typing import Any

import numpy as np
import torch

from actors.plain_quantizers import Matrix


def bitsandbytes_4bit(weights: Matrix, kind: str, block: int) -> Matrix:
    """NF4 and FP4 by bitsandbytes."""
    from bitsandbytes import functional

    quantized, state = _in_blocks(weights, kind, block)
    return _unblocked(functional.dequantize_4bit(quantized, state), weights)


def nested_4bit(weights: Matrix, mean_largest: float, kind: str, block: int) -> Matrix:
    """The same with its double quantization: blocks' largest magnitudes less their mean in 8 bits.

    Args:
        mean_largest: that mean, over the whole tensor.
    """
    from bitsandbytes import functional

    quantized, state = _in_blocks(weights, kind, block)
    kept, of_kept = functional.quantize_blockwise(state.absmax - mean_largest, blocksize=256)
    state.absmax = functional.dequantize_blockwise(kept, of_kept) + mean_largest
    return _unblocked(functional.dequantize_4bit(quantized, state), weights)


def _in_blocks(weights: Matrix, kind: str, block: int) -> Any:
    """Blocks run over the ends of rows. A row each: of others the CPU's kernel expands some to
    other weights than it quantized (bitsandbytes 0.50.2, rows of 144).
    """
    from bitsandbytes import functional

    flat = torch.from_numpy(weights).reshape(-1)
    rest = -len(flat) % block
    blocks = torch.nn.functional.pad(flat, (0, rest)).reshape(-1, block)
    return functional.quantize_4bit(blocks, blocksize=block, quant_type=kind)


def _unblocked(expanded: torch.Tensor, weights: Matrix) -> Matrix:
    return np.asarray(expanded.float().reshape(-1)[: weights.size].reshape(weights.shape).numpy())


def llm_int8(weights: Matrix) -> Matrix:
    """LLM.int8 by bitsandbytes: a scale a row."""
    from bitsandbytes import functional

    quantized, scales, _ = functional.int8_vectorwise_quant(torch.from_numpy(weights).half())
    return np.asarray(functional.int8_vectorwise_dequant(quantized, scales).float().numpy())


def torchao(weights: Matrix, bits: int) -> Matrix:
    """torchao's weight-only formats, as the variants made here have them."""
    from torchao.quantization import (
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        quantize_,
    )

    layer = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    # Scales have the dtype of the weights.
    layer.weight = torch.nn.Parameter(torch.from_numpy(weights).half(), requires_grad=False)
    if bits == 8:
        quantize_(layer, Int8WeightOnlyConfig())
    else:
        int4 = torch.int4  # type: ignore[attr-defined]
        quantize_(layer, IntxWeightOnlyConfig(weight_dtype=int4, granularity=PerGroup(32)))
    expanded: Any = layer.weight
    return np.asarray(expanded.dequantize().float().numpy())


def ggml(weights: Matrix, kind: str) -> Matrix:
    """One of ggml's types that its Python package makes."""
    import gguf

    of = gguf.GGMLQuantizationType[kind]
    blocks = gguf.quants.quantize(weights, of)
    return np.asarray(gguf.quants.dequantize(blocks, of).reshape(weights.shape))
