"""Blocks of weights and a grid → which blocks lie on it, and with what scale.

A weight lies on a grid where some level, times the block's scale, is within the rounding of its
dtype. The scale is not known: the largest weight of a block is one of a few levels; from each the
levels of the others follow, from these the interval of scales that all of them allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.contract.grids import Grid
from orchestrator.integrity.rounding import Rounding, Values

# Of the distance between a dtype's neighbours: half is its own rounding; where it was computed in
# FP16 and is kept as BF16, a sixteenth more.
_ROUNDING = 0.5625
# Of a step, for a level that was itself computed in 16 bits (a zero-point, a product).
_SLACK = 1 / 64
_AFFINE_SLACK = 1 / 16
# Of least squares, until each weight has its level.
_ROUNDS = 6
# One weight of so many may lie off the grid, as where a library takes out what it cannot round.
_FORGIVEN = 128


@dataclass(frozen=True)
class Fit:
    """How some blocks lie on a grid; arrays have an entry a block.

    Attributes:
        on_grid: whether a block does.
        scales: where it does; else 0.
        log10_chance: of its distinct weights to lie there if they were spread evenly between the
            levels, times the scales that were tried.
        telling: whether it has three distinct weights, two of which are not 0; any grid holds one,
            and a weight and its negative are no grid, either.
    """

    on_grid: NDArray[np.bool_]
    scales: Values
    log10_chance: Values
    telling: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of the telling blocks, those on the grid; 0 where none tells."""
        return float(self.on_grid[self.telling].mean()) if self.telling.any() else 0.0

    @property
    def total_log10_chance(self) -> float:
        """Of all telling blocks on the grid together."""
        return float(self.log10_chance[self.telling & self.on_grid].sum())


def fit(blocks: Values, grid: Grid, rounding: Rounding, tops: Sequence[float] | None = None) -> Fit:
    """Fits a grid to each block by itself.

    Args:
        blocks: shape (blocks, weights of a block), finite.
        rounding: what the weights were rounded to.
        tops: instead of the grid's own.
    """
    ordered = np.sort(blocks, axis=1)
    distinct = np.ones(ordered.shape, bool)
    distinct[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    count = len(ordered)
    found = Fit(
        on_grid=np.zeros(count, bool),
        scales=np.zeros(count),
        log10_chance=np.zeros(count),
        telling=((distinct & (ordered != 0)).sum(1) >= 2) & (distinct.sum(1) >= 3),
    )
    counted = distinct & ~_has_positive(ordered) if grid.is_mirrored else distinct
    tops = tops or grid.tops
    left = np.arange(count)
    for top in tops:
        tried = _try(ordered[left], grid, rounding, np.full((len(left), 1), top))
        # The first that holds has the coarsest levels.
        on = left[tried.on_grid]
        found.on_grid[on] = True
        found.scales[on] = tried.scales[tried.on_grid]
        chances = np.log10(tried.chances[tried.on_grid])
        evidence = np.where(counted[on], chances, 0.0).sum(1)
        found.log10_chance[on] = evidence + np.log10(len(tops))
        left = left[~tried.on_grid]
        if not len(left):
            break
    return found


def _has_positive(ordered: Values) -> NDArray[np.bool_]:
    """Which weights of a block are the negative of another one."""
    falling = ordered[:, ::-1]
    # Of a weight and its negative the positive one comes first.
    order = np.argsort(np.abs(falling), axis=1, kind="stable")
    sizes = np.take_along_axis(falling, order, 1)
    again = np.zeros(ordered.shape, bool)
    again[:, 1:] = (np.abs(sizes[:, 1:]) == np.abs(sizes[:, :-1])) & (sizes[:, 1:] < 0)
    found = np.zeros(ordered.shape, bool)
    np.put_along_axis(found, order, again, 1)
    return found[:, ::-1]


def share_on_grid(blocks: Values, grid: Grid, rounding: Rounding) -> float:
    """The share of a few blocks that lie on a grid: all tops at once, which a few allow."""
    tops = grid.tops
    ordered = np.repeat(np.sort(blocks, axis=1), len(tops), axis=0)
    tried = _try(ordered, grid, rounding, np.tile(np.array(tops), len(blocks))[:, None])
    return float(tried.on_grid.reshape(len(blocks), len(tops)).any(1).mean())


@dataclass(frozen=True)
class _Try:
    """Blocks on a grid whose top is known; arrays have an entry a block.

    Attributes:
        chances: of each weight, to lie on it; 1 for those that the scale was taken from.
    """

    on_grid: NDArray[np.bool_]
    scales: Values
    chances: Values


def _try(ordered: Values, grid: Grid, rounding: Rounding, tops: Values) -> _Try:
    spacing = rounding.spacing(ordered)
    if grid.affine:
        return _affine(ordered, grid, spacing, tops)
    found = _scaled(ordered, grid, spacing, tops)
    if ordered.shape[1] > grid.signed_scale:
        return found
    return _either(found, _turned(_scaled(-ordered[:, ::-1], grid, spacing[:, ::-1], tops)))


def _either(first: _Try, second: _Try) -> _Try:
    """The first where it holds, else the second."""
    return _Try(
        first.on_grid | second.on_grid,
        np.where(first.on_grid, first.scales, second.scales),
        np.where(first.on_grid[:, None], first.chances, second.chances),
    )


def _turned(found: _Try) -> _Try:
    return _Try(found.on_grid, -found.scales, found.chances[:, ::-1])


def _scaled(ordered: Values, grid: Grid, spacing: Values, tops: Values) -> _Try:
    levels = np.array(grid.levels)
    gaps = np.minimum(np.diff(levels, prepend=-np.inf), np.diff(levels, append=np.inf))
    middles = (levels[1:] + levels[:-1]) / 2
    count, length = ordered.shape
    largest = np.where(np.abs(ordered[:, 0]) >= np.abs(ordered[:, -1]), 0, length - 1)
    top = np.abs(ordered[np.arange(count), largest])[:, None]
    scale = np.where(top == 0, 1.0, top) / tops
    for _ in range(2):
        nearest = levels[np.searchsorted(middles, ordered / scale)]
        scale = _positive((nearest * ordered).sum(1), (nearest * nearest).sum(1), scale)
    index = np.searchsorted(middles, ordered / scale)
    step = gaps[index] * scale
    found = _at_levels(ordered, levels[index], spacing, _SLACK * step, step)
    # All that are as large.
    found.chances[ordered == ordered[np.arange(count), largest, None]] = 1.0
    return found


def _at_levels(
    ordered: Values, nearest: Values, spacing: Values, slack: Values, step: Values
) -> _Try:
    """Blocks whose weights' levels are known, and their scale is not."""
    allowed = _ROUNDING * spacing + slack
    scale = _allowed_scale(ordered, nearest, allowed)
    off_grid = np.abs(ordered - nearest * scale) > allowed * (1 + 1e-9)
    chances = np.where(ordered == 0, 1.0, _chances(allowed, spacing, step))
    return _Try(_are_on(off_grid), scale[:, 0], chances)


def _chances(allowed: Values, spacing: Values, step: Values) -> Values:
    """Of a number of the dtype to be within what is allowed of some level, wherever levels begin.

    So many of its numbers lie within twice that, at most; of all in a step, that is the share.
    """
    return np.minimum(1.0, (np.floor(2 * allowed / spacing) + 1) * spacing / step)


def _allowed_scale(ordered: Values, nearest: Values, allowed: Values) -> Values:
    """The middle of the scales that weights allow: |weight| ± allowed = |level| · scale."""
    length = ordered.shape[1]
    forgiven = length // _FORGIVEN
    zero = nearest == 0
    size = np.where(zero, 1.0, np.abs(nearest))
    towards = ordered * np.sign(nearest)
    least = np.where(zero, -np.inf, (towards - allowed) / size)
    most = np.where(zero, np.inf, (towards + allowed) / size)
    low = np.partition(least, length - 1 - forgiven, 1)[:, length - 1 - forgiven]
    high = np.partition(most, forgiven, 1)[:, forgiven]
    bounded = np.isfinite(low) & np.isfinite(high)
    middle = (np.where(bounded, low, 0.0) + np.where(bounded, high, 0.0)) / 2
    return np.asarray(middle[:, None])


def _affine(ordered: Values, grid: Grid, spacing: Values, spans: Values) -> _Try:
    first, last = ordered[:, :1], ordered[:, -1:]
    scale = np.where(last == first, 1.0, (last - first) / spans)
    offset = first
    for _ in range(_ROUNDS):
        steps = np.rint((ordered - offset) / scale)
        # What was rounded less says more.
        weights = 1 / (spacing / 2 + scale / 16) ** 2
        weights /= weights.sum(1, keepdims=True)
        mean_step = (weights * steps).sum(1, keepdims=True)
        mean = (weights * ordered).sum(1, keepdims=True)
        centred = weights * (steps - mean_step)
        scale = _positive(
            (centred * (ordered - mean)).sum(1), (centred * (steps - mean_step)).sum(1), scale
        )
        offset = mean - scale * mean_step
    steps = np.rint((ordered - offset) / scale)
    allowed = _ROUNDING * spacing + _AFFINE_SLACK * scale
    off_grid = np.abs(ordered - offset - steps * scale) > allowed
    free = _Try(_are_on(off_grid), scale[:, 0], _chances(allowed, spacing, scale))
    # The ends of a block may be rounded further apart than they were.
    most = grid.levels[-1] + np.rint((spacing[:, 0] + spacing[:, -1]) / 2 / scale[:, 0])
    free.on_grid[steps[:, -1] - steps[:, 0] > most] = False
    # Most have a whole zero-point, so that the scale alone is in doubt.
    steps = np.rint(ordered / scale)
    whole = _at_levels(ordered, steps, spacing, _AFFINE_SLACK * scale, scale)
    whole.on_grid[steps[:, -1] - steps[:, 0] > most] = False
    found = _either(free, whole)
    found.chances[(ordered == first) | (ordered == last)] = 1.0
    return found


def _are_on(off_grid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(off_grid.sum(1) <= off_grid.shape[1] // _FORGIVEN)


def _positive(above: Values, below: Values, otherwise: Values) -> Values:
    """The ratio by least squares, where it is one of a scale."""
    ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)[:, None]
    return np.where(ratio > 0, ratio, otherwise)
