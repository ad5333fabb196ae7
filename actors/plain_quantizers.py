"""Formats written out from their definitions: float32 weights `[lines, weights of a line]` → the
same, quantized and expanded.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


def _grouped(weights: Matrix, group: int | None) -> Matrix:
    return weights.reshape(-1, group or weights.shape[1])


def _half(values: Any) -> Any:
    """A scale as files keep it."""
    return values.astype(np.float16).astype(np.float32)


def _divisor(scale: Any) -> Any:
    """A scale to divide by: of weights that are all 0 any is right."""
    return np.where(scale == 0, 1, scale)


def symmetric(weights: Matrix, bits: int, group: int | None) -> Matrix:
    """Whole steps, the largest weight of a group at the end (round to nearest)."""
    grouped = _grouped(weights, group)
    end = 2 ** (bits - 1) - 1
    scale = _half(np.abs(grouped).max(1, keepdims=True) / end)
    steps = np.clip(np.rint(grouped / _divisor(scale)), -end - 1, end)
    return np.asarray((steps * scale).reshape(weights.shape), np.float32)


def with_zero_points(weights: Matrix, bits: int, group: int | None) -> Matrix:
    """Whole steps from a whole zero-point, as GPTQ and AWQ have them."""
    grouped = _grouped(weights, group)
    last = 2**bits - 1
    low = np.minimum(grouped.min(1, keepdims=True), 0)
    high = np.maximum(grouped.max(1, keepdims=True), 0)
    scale = _divisor(_half((high - low) / last))
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(grouped / scale) + zero, 0, last)
    return np.asarray(((steps - zero) * scale).reshape(weights.shape), np.float32)


def from_minimum(weights: Matrix, bits: int, group: int) -> Matrix:
    """Whole steps from a group's minimum, as HQQ begins."""
    grouped = _grouped(weights, group)
    low = _half(grouped.min(1, keepdims=True))
    scale = _divisor(_half((grouped.max(1, keepdims=True) - low) / (2**bits - 1)))
    steps = np.clip(np.rint((grouped - low) / scale), 0, 2**bits - 1)
    return np.asarray((steps * scale + low).reshape(weights.shape), np.float32)


def k_quant(weights: Matrix, bits: int, block: int, scale_bits: int) -> Matrix:
    """Q2_K, Q4_K, Q5_K as ggml-quants.c lays them out: scales and minima of a superblock of 256 are
    whole numbers times one of each.
    """
    last, last_scale = 2**bits - 1, 2**scale_bits - 1
    blocks = weights.reshape(-1, 256 // block, block)
    low = np.minimum(blocks.min(2), 0)
    scales, minima = (blocks.max(2) - low) / last, -low
    scale, minimum = (_half(each.max(1, keepdims=True) / last_scale) for each in (scales, minima))
    scales = np.rint(scales / _divisor(scale)) * scale
    minima = np.rint(minima / _divisor(minimum)) * minimum
    steps = np.rint((blocks + minima[..., None]) / _divisor(scales)[..., None])
    steps = np.clip(steps, 0, last)
    found = scales[..., None] * steps - minima[..., None]
    return np.asarray(found.reshape(weights.shape), np.float32)


def signed_k_quant(weights: Matrix, bits: int, scale_bits: int) -> Matrix:
    """Q3_K and Q6_K: blocks of 16, scales of either sign."""
    half, half_scale = 2 ** (bits - 1), 2 ** (scale_bits - 1)
    blocks = weights.reshape(-1, 16, 16)
    scales = -_largest(blocks) / half
    scale = _half(_largest(scales[:, None, :]) / -half_scale)
    scales = np.clip(np.rint(scales / _divisor(scale)), -half_scale, half_scale - 1) * scale
    steps = np.clip(np.rint(blocks / _divisor(scales)[..., None]), -half, half - 1)
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
    scales = np.clip(np.rint(scales / _divisor(scale)), -32, 31) * scale
    return _rounded(blocks, scales[..., None], _IQ4, weights)


_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
_E2M1 = np.unique(np.concatenate([-_E2M1, _E2M1]))


def mxfp4(weights: Matrix) -> Matrix:
    """OCP MXFP4: E2M1, a power of two for 32 weights."""
    blocks = weights.reshape(-1, 32)
    exponent = np.floor(np.log2(_divisor(np.abs(blocks).max(1, keepdims=True)))) - 2
    return _rounded(blocks, 2.0**exponent, _E2M1, weights)


def nvfp4(weights: Matrix, largest: float) -> Matrix:
    """NVFP4: E2M1, an E4M3 scale for 16 weights, times one of the tensor."""
    blocks = weights.reshape(-1, 16)
    of_tensor = largest / (448 * 6) or 1.0
    scales = torch.from_numpy(np.abs(blocks).max(1, keepdims=True) / 6 / of_tensor)
    scale = scales.to(torch.float8_e4m3fn).float().numpy() * np.float32(of_tensor)
    return _rounded(blocks, scale, _E2M1, weights)


def _rounded(blocks: Any, scale: Any, levels: Any, weights: Matrix) -> Matrix:
    middles = (levels[1:] + levels[:-1]) / 2
    found = levels[np.searchsorted(middles, blocks / _divisor(scale))] * scale
    return np.asarray(found.reshape(weights.shape), np.float32)


def fp8(weights: Matrix, largest: float, dtype: torch.dtype, by: str) -> Matrix:
    """FP8 with a scale a tensor, row or tile of 128, or (MX) a power of two for 32.

    Args:
        largest: magnitude of the whole tensor.
    """
    rows, columns = weights.shape
    if by == "tile" and rows % 128:
        # The last row of tiles is lower.
        padded = np.concatenate([weights, np.zeros((-rows % 128, columns), np.float32)])
        return fp8(padded, largest, dtype, by)[:rows]
    shape: dict[str, tuple[int, ...]] = {
        "tensor": (1, rows, 1, columns),
        "row": (rows, 1, 1, columns),
        "tile": (-1, min(128, rows), columns // 128 or 1, min(128, columns)),
        "mx": (rows, 1, columns // 32 or 1, 32),
    }
    tiles = torch.from_numpy(weights).reshape(shape[by])
    whole = torch.full((1, 1, 1, 1), largest)
    most = whole if by == "tensor" else tiles.abs().amax((1, 3), keepdim=True)
    most_kept = torch.finfo(dtype).max
    scale = most / most_kept
    if by == "mx":
        scale = 2.0 ** (most.log2().floor() - np.floor(np.log2(most_kept)))
    # Of weights that are all 0 any is right.
    scale = torch.where(scale == 0, 1, scale)
    quantized = (tiles / scale).clamp(-most_kept, most_kept).to(dtype)
    return np.asarray((quantized.float() * scale).reshape(rows, columns).numpy())


def by_tensor(weights: Matrix, largest: float) -> Matrix:
    """Whole steps of 8 bits, one scale for all."""
    scale = _divisor(_half(np.float32(largest / 127)))
    return np.asarray(np.clip(np.rint(weights / scale), -128, 127) * scale, np.float32)
