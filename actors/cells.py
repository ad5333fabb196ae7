"""Weights → the cells of a quantizer that they fall in: which one, and how wide it is.

A cell is all that a quantizer rounds to one level. Scales are those that the quantizer would take:
of a block of 64 by bitsandbytes' 4-bit formats, of a row by those of 8 bits, of 32 by torchao's 4,
of 128, from the least to the largest, by its tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from orchestrator.contract.grids import GRIDS

_BLOCK, _GROUP, _TILE_GROUP = 64, 32, 128


@dataclass(frozen=True)
class Cells:
    """The cell of each weight of a tensor, in the tensor's order.

    Attributes:
        codes: int64 `[weights]`, the level that its weight is rounded to, by number.
        half_widths: float32 `[weights]`, half of its width in units of the weights.
    """

    codes: torch.Tensor
    half_widths: torch.Tensor


def _of_levels(weights: torch.Tensor, grid: str) -> Cells:
    """A grid from -1 to 1 times the largest magnitude of a block."""
    levels = torch.tensor(next(one.levels for one in GRIDS if one.name == grid))
    middles = (levels[1:] + levels[:-1]) / 2
    edges = torch.cat([levels[:1], middles, levels[-1:]])
    blocks, scales = _in_blocks(weights, _BLOCK)
    codes = torch.bucketize(blocks / scales, middles)
    halves = (edges[1:] - edges[:-1])[codes] / 2 * scales
    count = weights.numel()
    return Cells(codes.reshape(-1)[:count], halves.reshape(-1)[:count])


def _of_steps(weights: torch.Tensor, block: int | None, steps: float) -> Cells:
    """Whole steps, of which the largest magnitude of a row or block has so many."""
    blocks, scales = _in_blocks(weights, block or weights.shape[-1])
    step = scales / steps
    codes = (blocks / step).round().long()
    count = weights.numel()
    halves = (step / 2).expand_as(blocks)
    return Cells(codes.reshape(-1)[:count], halves.reshape(-1)[:count])


def _of_range(weights: torch.Tensor, block: int, steps: int) -> Cells:
    """Whole steps from the least weight of a block to its largest, so many."""
    flat = weights.reshape(-1)
    # The rest is filled up with its last weight, which changes no range.
    rest = flat[-1:].expand(-flat.numel() % block)
    blocks = torch.cat([flat, rest]).reshape(-1, block)
    least, most = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    step = torch.where(most == least, 1.0, (most - least) / steps)
    codes = ((blocks - least) / step).round().long()
    halves = (step / 2).expand_as(blocks)
    return Cells(codes.reshape(-1)[: flat.numel()], halves.reshape(-1)[: flat.numel()])


def _in_blocks(weights: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks `[blocks, weights]`, the last one filled up with zeros, and their scales; of weights
    that are all 0 a scale is 1.
    """
    flat = weights.reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % block)).reshape(-1, block)
    scales = blocks.abs().amax(1, keepdim=True)
    return blocks, torch.where(scales == 0, 1.0, scales)


_NF4 = partial(_of_levels, grid="NF4")

# By variant: float32 weights `[out, in]` → their cells.
CELLS: dict[str, Callable[[torch.Tensor], Cells]] = {
    "int8": partial(_of_steps, block=None, steps=127.0),
    "nf4": _NF4,
    "nf4-dq": _NF4,
    "fp4": partial(_of_levels, grid="FP4"),
    "torchao-int8": partial(_of_steps, block=None, steps=127.5),
    "torchao-int4": partial(_of_steps, block=_GROUP, steps=7.5),
    "torchao-int4-tile": partial(_of_range, block=_TILE_GROUP, steps=15),
}
