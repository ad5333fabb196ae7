"""Weights of one direction → the grid and the size of block that hold them in the fewest bits."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.grids import GRIDS, Grid
from orchestrator.integrity.exchangeability import Count, Occurrences, count_distinct
from orchestrator.integrity.fitting import Fit, fit, share_on_grid
from orchestrator.integrity.rounding import Rounding, Values
from orchestrator.integrity.sampling import Line, Numbers

# Of a line at least, where a block does not divide it.
_PARTS = 4
BLOCKS = (16, 32, 64, 128, 256, 512, 1024)
# Of sampled blocks, to lie on a grid; and to say that it cannot be told.
ON_GRID_SHARE, UNCLEAR_SHARE = 0.99, 0.5
# By chance a tensor's blocks lie on a grid less often than this, in all and on average.
TOTAL_LOG10_CHANCE, _BLOCK_LOG10_CHANCE = -12.0, -0.5
# What a block's scale, or offset, takes.
_SCALE_BITS = 16
# Blocks and weights of these that throw most grids out, and those that then decide.
_FIRST_BLOCKS, _FIRST_WEIGHTS, _FIRST_SHARE = 8, 64, 0.6
DECIDING_WEIGHTS, _LEAST_BLOCKS = 65536, 16


@dataclass(frozen=True)
class Axis:
    """Weights that lie side by side in one direction."""

    line: Line

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that a line is cut into, with little of a rest; the whole of it last, where it
        has an end.
        """
        length = self.values.shape[1]
        whole = (length,) if self.whole else ()
        cut = (b for b in BLOCKS if b < length and (length % b == 0 or _PARTS * b <= length))
        return (*cut, *whole)

    def blocks(self, size: int) -> Values:
        """Blocks of a size, from the beginning of each line; a rest at its end is left out."""
        return _cut(self.values, size)

    @property
    def whole(self) -> int:
        """The size of a block that stands for a whole line; 0 where there is none."""
        return 0 if self.line.is_flat else self.values.shape[1]

    @cached_property
    def values(self) -> Values:
        """Of shape (lines, weights); lines with a number that is none are left out."""
        return self._finite.astype(np.float64)

    @cached_property
    def _finite(self) -> Numbers:
        return self.line.values[np.isfinite(self.line.values).all(1)]

    @cached_property
    def counts(self) -> dict[int, Count]:
        """Distinct values, by size of block."""
        # Numbers of 32 bits sort in half the time.
        all_of_them = Occurrences.of(self._finite)
        found = {}
        for size in self.sizes:
            blocks = _cut(self._finite, size)
            is_all = blocks.size == self._finite.size
            pool = all_of_them if is_all else Occurrences.of(blocks)
            found[size] = count_distinct(blocks, pool)
        return found


def _cut(lines: NDArray[Any], size: int) -> NDArray[Any]:
    whole = lines.shape[1] // size * size
    return lines[:, :whole].reshape(-1, size)


@dataclass(frozen=True)
class AxisFit:
    """A grid that blocks of one direction lie on.

    Attributes:
        cost: the bits that a weight would take, its share of the scale included.
    """

    axis: Axis
    grid: Grid
    block: int
    fit: Fit
    cost: float

    @property
    def scales(self) -> Values:
        """Those of blocks that tell and lie on it; of floating-point grids within an octave."""
        return self.fit.scales[self.fit.on_grid & self.fit.telling]

    @property
    def is_whole(self) -> bool:
        return self.block == self.axis.whole

    @property
    def is_on_grid(self) -> bool:
        return self.fit.share >= ON_GRID_SHARE

    @property
    def is_sure(self) -> bool:
        """Whether chance does not explain it."""
        telling = int((self.fit.telling & self.fit.on_grid).sum())
        total = self.fit.total_log10_chance
        return total <= TOTAL_LOG10_CHANCE and total <= _BLOCK_LOG10_CHANCE * telling


def fit_axis(axis: Axis, rounding: Rounding, known: AxisFit | None) -> AxisFit | None:
    """The grid of fewest bits that holds the blocks of one direction, else the one that holds most.

    Args:
        known: what holds those of another direction: another grid must take fewer bits.
    """
    best: AxisFit | None = None
    for cost, block, grid in _candidates(axis):
        if known is not None and grid != known.grid and cost >= known.cost:
            continue
        blocks = axis.blocks(block)
        few = spread(blocks, _FIRST_BLOCKS)
        if share_on_grid(_thinned(few, _FIRST_WEIGHTS), grid, rounding) < _FIRST_SHARE:
            continue
        some = spread(blocks, max(_LEAST_BLOCKS, DECIDING_WEIGHTS // block))
        found = AxisFit(axis, grid, block, fit(some, grid, rounding), cost)
        if not found.is_sure or found.fit.share < UNCLEAR_SHARE:
            continue
        if found.is_on_grid:
            return found
        if best is None or found.fit.share > best.fit.share:
            best = found
    return best


def _candidates(axis: Axis) -> list[tuple[float, int, Grid]]:
    """Grids and blocks that have levels enough, with the bits of a weight; the fewest first."""
    found = []
    for block in axis.sizes:
        blocks = spread(axis.blocks(block), 256)
        ordered = np.sort(blocks, axis=1)
        distinct = np.quantile(1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1), 0.75)
        for grid in GRIDS:
            if distinct <= len(grid.levels):
                found.append((grid.bits + _SCALE_BITS * (1 + grid.affine) / block, block, grid))
    return sorted(found, key=lambda candidate: candidate[0])


def spread(blocks: Values, count: int) -> Values:
    """So many of some blocks, spread over all of them."""
    if len(blocks) <= count:
        return blocks
    return blocks[(np.arange(count) * len(blocks)) // count]


def _thinned(blocks: Values, count: int) -> Values:
    """So many weights of each block, its least and largest among them."""
    if blocks.shape[1] <= count:
        return blocks
    ordered = np.sort(blocks, axis=1)
    return ordered[:, np.linspace(0, blocks.shape[1] - 1, count).round().astype(int)]
