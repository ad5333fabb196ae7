"""Weights that were quantized and expanded again: by the library that defines the format where it
runs here, else written out from the format's definition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class OnceQuantized:
    """A way to quantize.

    Attributes:
        make: float32 weights `[out, in]` → the same, quantized and expanded.
        family, block, name: what an audit must say of them; a name is one of several at most.
        blocks_of: the number of weights that a row must be a multiple of.
    """

    make: Callable[[Matrix], Matrix]
    family: str
    block: int | str | None
    name: str | None = None
    blocks_of: int = 1


def kept_as(weights: Matrix, dtype: str) -> Matrix:
    """The same, rounded to a dtype."""
    found = torch.from_numpy(np.ascontiguousarray(weights)).to(DTYPES[dtype]).float().numpy()
    return np.asarray(found, np.float32)


def _grouped(weights: Matrix, group: int | None) -> Matrix:
    return weights.reshape(-1, group or weights.shape[1])


def _half(values: Any) -> Any:
    """A scale as files keep it."""
    return values.astype(np.float16).astype(np.float32)


def symmetric(weights: Matrix, bits: int, group: int | None) -> Matrix:
    """Whole steps, the largest weight of a group at the end (round to nearest)."""
    grouped = _grouped(weights, group)
    end = 2 ** (bits - 1) - 1
    scale = _half(np.abs(grouped).max(1, keepdims=True) / end)
    return (np.clip(np.rint(grouped / scale), -end - 1, end) * scale).reshape(weights.shape)


def with_zero_points(weights: Matrix, bits: int, group: int | None) -> Matrix:
    """Whole steps from a whole zero-point, as GPTQ and AWQ have them."""
    grouped = _grouped(weights, group)
    last = 2**bits - 1
    low = np.minimum(grouped.min(1, keepdims=True), 0)
    high = np.maximum(grouped.max(1, keepdims=True), 0)
    scale = _half((high - low) / last)
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(grouped / scale) + zero, 0, last)
    return ((steps - zero) * scale).reshape(weights.shape)


def from_minimum(weights: Matrix, bits: int, group: int) -> Matrix:
    """Whole steps from a group's minimum, as HQQ begins."""
    grouped = _grouped(weights, group)
    low = _half(grouped.min(1, keepdims=True))
    scale = _half((grouped.max(1, keepdims=True) - low) / (2**bits - 1))
    steps = np.clip(np.rint((grouped - low) / scale), 0, 2**bits - 1)
    return (steps * scale + low).reshape(weights.shape)


def permuted_groups(weights: Matrix, bits: int, group: int) -> Matrix:
    """GPTQ's with `desc_act`: columns are grouped in the order of their activations."""
    order = np.random.default_rng(7).permutation(weights.shape[1])
    found = np.empty_like(weights)
    found[:, order] = with_zero_points(weights[:, order], bits, group)
    return found


def bitsandbytes_4bit(weights: Matrix, kind: str, block: int, nested: bool) -> Matrix:
    """NF4 and FP4 by bitsandbytes; nested: its double quantization."""
    from bitsandbytes import functional

    quantized, state = functional.quantize_4bit(
        torch.from_numpy(weights), blocksize=block, quant_type=kind, compress_statistics=nested
    )
    return np.asarray(functional.dequantize_4bit(quantized, state).float().numpy())


def llm_int8(weights: Matrix) -> Matrix:
    """LLM.int8 by bitsandbytes: a scale a row."""
    from bitsandbytes import functional

    quantized, scales, _ = functional.int8_vectorwise_quant(torch.from_numpy(weights).half())
    return np.asarray(functional.int8_vectorwise_dequant(quantized, scales).float().numpy())


def ggml(weights: Matrix, kind: str) -> Matrix:
    """One of ggml's types that its Python package makes."""
    import gguf

    of = gguf.GGMLQuantizationType[kind]
    blocks = gguf.quants.quantize(weights, of)
    return np.asarray(gguf.quants.dequantize(blocks, of).reshape(weights.shape))


def k_quant(weights: Matrix, bits: int, block: int, scale_bits: int) -> Matrix:
    """Q2_K, Q4_K, Q5_K as ggml-quants.c lays them out: scales and minima of a superblock of 256 are
    whole numbers times one of each.
    """
    last, last_scale = 2**bits - 1, 2**scale_bits - 1
    blocks = weights.reshape(-1, 256 // block, block)
    low = np.minimum(blocks.min(2), 0)
    scales, minima = (blocks.max(2) - low) / last, -low
    scale, minimum = (_half(each.max(1, keepdims=True) / last_scale) for each in (scales, minima))
    scales = np.rint(scales / scale) * scale
    minima = np.rint(minima / np.where(minimum == 0, 1, minimum)) * minimum
    divisor = np.where(scales == 0, 1, scales)[..., None]
    steps = np.clip(np.rint((blocks + minima[..., None]) / divisor), 0, last)
    found = scales[..., None] * steps - minima[..., None]
    return np.asarray(found.reshape(weights.shape), np.float32)


def signed_k_quant(weights: Matrix, bits: int, scale_bits: int) -> Matrix:
    """Q3_K and Q6_K: blocks of 16, scales of either sign."""
    half, half_scale = 2 ** (bits - 1), 2 ** (scale_bits - 1)
    blocks = weights.reshape(-1, 16, 16)
    scales = -_largest(blocks) / half
    scale = _half(_largest(scales[:, None, :]) / -half_scale)
    scales = np.clip(np.rint(scales / scale), -half_scale, half_scale - 1) * scale
    divisor = np.where(scales == 0, 1, scales)[..., None]
    steps = np.clip(np.rint(blocks / divisor), -half, half - 1)
    return np.asarray((scales[..., None] * steps).reshape(weights.shape), np.float32)


def _largest(blocks: Any) -> Any:
    """The element of the largest magnitude, with its sign."""
    where = np.abs(blocks).argmax(-1)[..., None]
    return np.take_along_axis(blocks, where, -1)[..., 0]


_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113.0])


def iq4_nl(weights: Matrix) -> Matrix:
    """IQ4_NL: ggml's table of 16 values, a scale for 32 weights."""
    blocks = weights.reshape(-1, 32)
    scale = _half(_largest(blocks) / _IQ4[0])[:, None]
    return _rounded(blocks, scale, _IQ4, weights)


def iq4_xs(weights: Matrix) -> Matrix:
    """IQ4_XS: the same table; scales of 6 bits times one of 256 weights."""
    blocks = weights.reshape(-1, 8, 32)
    scales = _largest(blocks) / _IQ4[0]
    scale = _half(_largest(scales[:, None, :]) / -32)
    scales = np.clip(np.rint(scales / scale), -32, 31) * scale
    scales = np.where(scales == 0, scale, scales)
    return _rounded(blocks, scales[..., None], _IQ4, weights)


_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
_E2M1 = np.unique(np.concatenate([-_E2M1, _E2M1]))


def mxfp4(weights: Matrix) -> Matrix:
    """OCP MXFP4: E2M1, a power of two for 32 weights."""
    blocks = weights.reshape(-1, 32)
    exponent = np.floor(np.log2(np.abs(blocks).max(1, keepdims=True))) - 2
    return _rounded(blocks, 2.0**exponent, _E2M1, weights)


def nvfp4(weights: Matrix) -> Matrix:
    """NVFP4: E2M1, an E4M3 scale for 16 weights, times one of the tensor."""
    blocks = weights.reshape(-1, 16)
    of_tensor = float(np.abs(weights).max()) / (448 * 6)
    scales = torch.from_numpy(np.abs(blocks).max(1, keepdims=True) / 6 / of_tensor)
    scale = scales.to(torch.float8_e4m3fn).float().numpy() * np.float32(of_tensor)
    return _rounded(blocks, scale, _E2M1, weights)


def _rounded(blocks: Any, scale: Any, levels: Any, weights: Matrix) -> Matrix:
    middles = (levels[1:] + levels[:-1]) / 2
    found = levels[np.searchsorted(middles, blocks / scale)] * scale
    return np.asarray(found.reshape(weights.shape), np.float32)


def fp8(weights: Matrix, dtype: torch.dtype, by: str) -> Matrix:
    """FP8 with a scale a tensor, row or tile of 128, or (MX) a power of two for 32."""
    rows, columns = weights.shape
    if by == "tile" and rows % 128:
        # The last row of tiles is lower.
        padded = np.concatenate([weights, np.zeros((-rows % 128, columns), np.float32)])
        return fp8(padded, dtype, by)[:rows]
    shape: dict[str, tuple[int, ...]] = {
        "tensor": (1, rows, 1, columns),
        "row": (rows, 1, 1, columns),
        "tile": (-1, min(128, rows), columns // 128 or 1, min(128, columns)),
        "mx": (rows, 1, columns // 32 or 1, 32),
    }
    tiles = torch.from_numpy(weights).reshape(shape[by])
    most = tiles.abs().amax((1, 3), keepdim=True)
    largest = torch.finfo(dtype).max
    scale = most / largest
    if by == "mx":
        scale = 2.0 ** (most.log2().floor() - np.floor(np.log2(largest)))
    quantized = (tiles / scale).clamp(-largest, largest).to(dtype)
    return np.asarray((quantized.float() * scale).reshape(rows, columns).numpy())


_ROW, _COLUMN = "row", "column"

WAYS: dict[str, OnceQuantized] = {
    **{
        f"INT{bits} by {group or 'row'}": OnceQuantized(
            partial(symmetric, bits=bits, group=group),
            f"INT{bits} symmetric",
            group or _ROW,
            "W8A8" if (bits, group) == (8, None) else None,
            group or 1,
        )
        for bits in (2, 3, 4, 5, 6, 8)
        for group in (32, 64, 128, None)
    },
    **{
        f"INT{bits} with zero-points by {group or 'row'}": OnceQuantized(
            partial(with_zero_points, bits=bits, group=group),
            f"INT{bits} affine",
            group or _ROW,
            None,
            group or 1,
        )
        for bits in (3, 4, 8)
        for group in (32, 64, 128, None)
    },
    "INT4 from a minimum by 64": OnceQuantized(
        partial(from_minimum, bits=4, group=64), "INT4 affine", 64, None, 64
    ),
    "INT4, groups of 64 permuted": OnceQuantized(
        partial(permuted_groups, bits=4, group=64), "INT4 affine", None, None, 64
    ),
    "INT8 by tensor": OnceQuantized(
        lambda w: symmetric(w.reshape(1, -1), 8, None).reshape(w.shape), "INT8 symmetric", "tensor"
    ),
    "LLM.int8": OnceQuantized(llm_int8, "INT8 symmetric", _ROW, "LLM.int8"),
    **{
        f"{kind.upper()} by {block}{', nested' if nested else ''}": OnceQuantized(
            partial(bitsandbytes_4bit, kind=kind, block=block, nested=nested),
            kind.upper(),
            block,
            f"bitsandbytes {kind.upper()}",
            block,
        )
        for kind, block, nested in (
            ("nf4", 64, False),
            ("nf4", 64, True),
            ("nf4", 128, False),
            ("fp4", 64, False),
        )
    },
    **{
        kind: OnceQuantized(partial(ggml, kind=kind), family, 32, kind, 32)
        for kind, family in (
            ("Q4_0", "INT4 symmetric"),
            ("Q4_1", "INT4 affine"),
            ("Q5_0", "INT5 symmetric"),
            ("Q5_1", "INT5 affine"),
            ("Q8_0", "INT8 symmetric"),
        )
    },
    "Q2_K": OnceQuantized(
        partial(k_quant, bits=2, block=16, scale_bits=4), "INT2 affine", 16, "Q2_K", 256
    ),
    "Q4_K": OnceQuantized(
        partial(k_quant, bits=4, block=32, scale_bits=6), "INT4 affine", 32, "Q4_K", 256
    ),
    "Q5_K": OnceQuantized(
        partial(k_quant, bits=5, block=32, scale_bits=6), "INT5 affine", 32, "Q5_K", 256
    ),
    "Q3_K": OnceQuantized(
        partial(signed_k_quant, bits=3, scale_bits=6), "INT3 symmetric", 16, "Q3_K", 256
    ),
    "Q6_K": OnceQuantized(
        partial(signed_k_quant, bits=6, scale_bits=8), "INT6 symmetric", 16, "Q6_K", 256
    ),
    "IQ4_NL": OnceQuantized(iq4_nl, "IQ4_NL", 32, "IQ4_NL", 32),
    "IQ4_XS": OnceQuantized(iq4_xs, "IQ4_NL", 32, "IQ4_XS", 256),
    "MXFP4": OnceQuantized(mxfp4, "FP4 E2M1", 32, "MXFP4", 32),
    "NVFP4": OnceQuantized(nvfp4, "FP4 E2M1", 16, "NVFP4", 16),
    **{
        f"FP8 {kind} by {by}": OnceQuantized(
            partial(fp8, dtype=dtype, by=by), f"FP8 {kind}", block, name, blocks_of
        )
        for kind, dtype in (("E4M3", torch.float8_e4m3fn), ("E5M2", torch.float8_e5m2))
        for by, block, name, blocks_of in (
            ("tensor", "tensor", None, 1),
            ("row", _ROW, None, 1),
            ("tile", "128x128", None, 128),
            ("mx", None, f"MXFP8 {kind}", 32),
        )
    },
}


def turned(way: OnceQuantized) -> OnceQuantized:
    """The same of weights that lie the other way round, `[in, out]`."""
    block = _COLUMN if way.block == _ROW else way.block
    return OnceQuantized(
        lambda weights: np.ascontiguousarray(way.make(np.ascontiguousarray(weights.T)).T),
        way.family,
        block,
        way.name,
        way.blocks_of,
    )
