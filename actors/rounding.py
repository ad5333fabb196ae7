"""Numbers rounded to a format's grid, as `orchestrator.contract.formats` has it: any device.

All is computed in float32, whatever the numbers are kept in.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from orchestrator.contract.formats import GridName, Rounding, ScaleRule

_E4M3 = torch.float8_e4m3fn
_E4M3_LARGEST = 448.0
# The least of its normal numbers: a block's scale is no less.
_E4M3_LEAST = 2.0**-6
# Exponents that 8 bits hold (E8M0).
_LEAST_EXPONENT, _MOST_EXPONENT = -127, 127


class Rounded(NamedTuple):
    """Numbers as a format keeps them.

    Attributes:
        levels: of the grid, float32 `[…, blocks, block]`.
        scales: float32 `[…, blocks, 1]`, all that the levels are multiplied by.
    """

    levels: torch.Tensor
    scales: torch.Tensor


class _Grid(NamedTuple):
    """A grid's largest level; the exponent of its largest power of two and its digits behind the
    point; and the nearest levels of float32 numbers within it, ties to even.
    """

    largest: float
    exponent: int
    digits: int
    nearest: Callable[[torch.Tensor], torch.Tensor]


def _e2m1(numbers: torch.Tensor) -> torch.Tensor:
    """0, 0.5, 1, 1.5, 2, 3, 4, 6: a step is as wide as the octave says (OCP MX 1.0, 5.3.3)."""
    magnitudes = numbers.abs()
    step = torch.where(magnitudes < 2, 0.5, torch.where(magnitudes < 4, 1.0, 2.0))
    return (numbers / step).round() * step


def _int8(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.round().clamp(-128, 127)


def _e4m3(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(_E4M3).float()


_GRIDS: dict[GridName, _Grid] = {
    # The range is of 255 steps, and zero in its middle: torchao's and compressed-tensors' own.
    "INT8 symmetric": _Grid(127.5, 6, 6, _int8),
    "FP8 E4M3": _Grid(_E4M3_LARGEST, 8, 3, _e4m3),
    "FP4 E2M1": _Grid(6.0, 2, 1, _e2m1),
}


def rounded(numbers: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """Numbers `[…, row]`, rounded and expanded again, in their own dtype."""
    levels, scales = quantized(numbers, rounding)
    return (levels * scales).reshape(numbers.shape).to(numbers.dtype)


def quantized(numbers: torch.Tensor, rounding: Rounding) -> Rounded:
    """Numbers `[…, row]` as levels of a grid and scales; a row is of whole blocks.

    The largest magnitude of what shares a scale is at the grid's end, or as near as the scale's
    own rounding leaves it; what that puts beyond is at the end.
    """
    grid = _GRIDS[rounding.grid]
    rows = numbers.float()
    blocks = rows.unflatten(-1, (-1, rounding.block or rows.shape[-1]))
    largest = blocks.abs().amax(-1, keepdim=True)
    scales = _SCALES[rounding.scale](largest, grid)
    within = (blocks / scales).clamp(-grid.largest, grid.largest)
    return Rounded(grid.nearest(within), scales)


def _float32(largest: torch.Tensor, grid: _Grid) -> torch.Tensor:
    return _not_zero(_over(largest, grid.largest))


def _to_even(largest: torch.Tensor, grid: _Grid) -> torch.Tensor:
    """The magnitude's power of two, once it has the grid's digits, over the grid's (torchao's EVEN;
    the text of OCP MX 1.0, 6.3, takes the power of two that is there).
    """
    kept = 23 - grid.digits
    bits = largest.view(torch.int32) + (1 << (kept - 1))
    return _power_of_two(((bits >> 23) & 0xFF) - 127 - grid.exponent)


def _up(largest: torch.Tensor, grid: _Grid) -> torch.Tensor:
    """The least power of two with which nothing is beyond the grid (torchao's RCEIL)."""
    fraction, exponent = torch.frexp(_over(largest, grid.largest))
    # A power of two itself is half of the next one; of 0 any does, and the least is taken.
    exponent = exponent - (fraction == 0.5).int()
    return _power_of_two(torch.where(fraction == 0, _LEAST_EXPONENT, exponent))


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    ones = torch.ones_like(exponent, dtype=torch.float32)
    return torch.ldexp(ones, exponent.clamp(_LEAST_EXPONENT, _MOST_EXPONENT))


def _e4m3_of_tensor(largest: torch.Tensor, grid: _Grid) -> torch.Tensor:
    return _times_e4m3(largest, largest.amax(), grid)


def _e4m3_of_row(largest: torch.Tensor, grid: _Grid) -> torch.Tensor:
    return _times_e4m3(largest, largest.amax(-2, keepdim=True), grid)


def _times_e4m3(largest: torch.Tensor, of_all: torch.Tensor, grid: _Grid) -> torch.Tensor:
    """An E4M3 number of each block, times one of all."""
    outer = _not_zero(_over(of_all, grid.largest * _E4M3_LARGEST))
    inner = (_over(largest, grid.largest) / outer).clamp(_E4M3_LEAST, _E4M3_LARGEST)
    return _e4m3(inner) * outer


def _over(numbers: torch.Tensor, divisor: float) -> torch.Tensor:
    """Divided on any device: GPUs multiply by the inverse of what is no tensor of theirs."""
    return numbers / torch.full_like(numbers, divisor)


def _not_zero(scales: torch.Tensor) -> torch.Tensor:
    """Of numbers that are all 0 any scale is right."""
    return torch.where(scales == 0, 1.0, scales)


_SCALES: dict[ScaleRule, Callable[[torch.Tensor, _Grid], torch.Tensor]] = {
    "float32": _float32,
    "power of two, to even": _to_even,
    "power of two, up": _up,
    "E4M3 times the tensor's": _e4m3_of_tensor,
    "E4M3 times the row's": _e4m3_of_row,
}
