"""Sampled weights of a tensor → the grid that they lie on, if they do.

Of all grids and blocks that hold 99% of the sampled blocks, the one is named that would keep the
tensor in the fewest bits: a grid of INT4 lies within one of INT8, and blocks of 32 within those of
128, so that finer ones hold, too, and say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.grids import GRIDS, PUBLISHED, Block, Grid, ScaleKind
from orchestrator.integrity.axes import TOTAL_LOG10_CHANCE, Axis, AxisFit, fit_axis
from orchestrator.integrity.exchangeability import Count
from orchestrator.integrity.fitting import fit
from orchestrator.integrity.permuted import find_permuted
from orchestrator.integrity.rounding import FP32, Rounding, Values
from orchestrator.integrity.sampling import Line
from orchestrator.integrity.scales import is_one_scale, scale_kind

# Of a tensor's count of distinct values, for its blocks to be looked at.
_LOOKED_AT_LOG10_P = -3.0
# A grid over a whole tensor, or with scales that are powers of two, shows in random order as well:
# the tensor has as few values, or fractions, as that.
_FEW_VALUES, _FEW_FRACTIONS = 257, 16


@dataclass(frozen=True)
class Found:
    """A grid that a tensor lies on.

    Attributes:
        block: None where it cannot be told: groups permuted, or scales that are powers of two.
        permuted: whether weights that share a scale are no neighbours.
        share: of the sampled blocks that tell, those on it.
        count: distinct values in blocks of that size; None where random order has as few.
        log10_chance: of the weights to lie on it, were they spread evenly between its levels.
    """

    grid: Grid
    block: Block | str | None
    scales: ScaleKind
    permuted: bool
    share: float
    count: Count | None
    log10_chance: float

    @property
    def names(self) -> tuple[str, ...]:
        """By what names such a tensor is known; several cannot be told apart."""
        for each in PUBLISHED:
            if (each.grid, each.scales) == (self.grid.name, self.scales) and each.block in (
                None,
                self.block,
            ):
                return each.names
        return ()


@dataclass(frozen=True)
class Identified:
    """What a tensor's sample shows.

    Attributes:
        rounding: the coarsest dtype that has all of its weights.
        found: None where it lies on no grid.
        unclear_share: the largest share of blocks on some grid, where it is too small to say that
            the tensor lies on it and too large to say that it does not; else 0.
    """

    rounding: Rounding
    counts: tuple[Count, ...]
    found: Found | None
    unclear_share: float = 0.0


def identify(lines: Sequence[Line]) -> Identified:
    """Looks for the grid that a tensor's weights lie on.

    Args:
        lines: its sampled weights, in each direction.
    """
    axes = [axis for axis in map(Axis, lines) if len(axis.values)]
    if not axes:
        return Identified(Rounding((FP32,)), (), None)
    pool = np.concatenate([axis.values.ravel() for axis in axes])
    rounding = Rounding.of(pool)
    counts = tuple(count for axis in axes for count in axis.counts.values())
    least = min((count.log10_p for count in counts), default=0.0)
    if least > _LOOKED_AT_LOG10_P and not _has_few(pool):
        return Identified(rounding, counts, None)
    fits: list[AxisFit] = []
    for axis in axes:
        known = min((f for f in fits if f.is_on_grid), key=lambda f: f.cost, default=None)
        if (found := fit_axis(axis, rounding, known)) is not None:
            fits.append(found)
    sure = sorted((f for f in fits if f.is_on_grid), key=lambda f: f.cost)
    most_bits = sure[0].cost if sure else np.inf
    if (found_tensor := _fit_tensor(pool, rounding, most_bits)) is not None:
        return Identified(rounding, counts, found_tensor)
    if sure:
        return Identified(rounding, counts, _found(sure, rounding))
    for axis in axes:
        if axis.whole and axis.counts[axis.whole].log10_p <= _LOOKED_AT_LOG10_P:
            permuted = find_permuted(axis.values, rounding)
            if permuted is not None:
                grid, groups = permuted
                count, chance = axis.counts[axis.whole], groups.total_log10_chance
                found_groups = Found(grid, None, "free", True, groups.share, count, chance)
                return Identified(rounding, counts, found_groups)
    return Identified(rounding, counts, None, max((f.fit.share for f in fits), default=0.0))


def _has_few(pool: Values) -> bool:
    """Whether the weights have so few values, or fractions, that their order says nothing."""
    values = np.unique(np.abs(pool[pool != 0]))
    fractions, _ = np.frexp(values)
    return 2 <= len(values) <= _FEW_VALUES or 2 <= len(np.unique(fractions)) <= _FEW_FRACTIONS


def _fit_tensor(pool: Values, rounding: Rounding, most_bits: float) -> Found | None:
    """The whole steps of one scale that all of a tensor's values are, in fewer bits than so many.

    The largest of a sample may be any of its steps.
    """
    values = np.unique(pool)
    if len(values) > _FEW_VALUES:
        return None
    for grid in GRIDS:
        if grid.affine or not grid.name.startswith("INT") or grid.bits >= most_bits:
            continue
        tops = [float(top) for top in range(2, 2 ** (grid.bits - 1) + 1)]
        found = fit(values[None, :], grid, rounding, tops)
        chance = found.total_log10_chance
        if found.on_grid.all() and chance <= TOTAL_LOG10_CHANCE:
            return Found(grid, "tensor", "free", False, 1.0, None, chance)
    return None


def _found(fits: Sequence[AxisFit], rounding: Rounding) -> Found:
    """What fits in one direction or both mean; the one of fewest bits comes first."""
    best = fits[0]
    across = next(
        (f for f in fits[1:] if f.grid == best.grid and f.axis.line.kind != best.axis.line.kind),
        None,
    )
    scales = scale_kind(best, rounding)
    block: Block | str | None = best.axis.line.kind if best.is_whole else best.block
    has_null = True
    if scales == "power of two":
        # Of a format with a few octaves the block shows.
        block, has_null = None if best.grid.is_float else block, False
    elif across is not None and is_one_scale(best) and is_one_scale(across):
        block, has_null = "tensor", False
    elif across is not None and not (best.is_whole and across.is_whole):
        rows, columns = sorted((best, across), key=lambda f: f.axis.line.kind, reverse=True)
        block = f"{columns.block}x{rows.block}"
    count = best.axis.counts[best.block] if has_null else None
    chance = best.fit.total_log10_chance
    return Found(best.grid, block, scales, False, best.fit.share, count, chance)
