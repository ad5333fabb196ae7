"""Scales of blocks that lie on a grid → how they were kept themselves."""

from collections.abc import Iterator

import numpy as np

from orchestrator.contract.grids import GRIDS, SUPERBLOCKS, Grid, ScaleKind, Superblock
from orchestrator.integrity.axes import DECIDING_WEIGHTS, TOTAL_LOG10_CHANCE, AxisFit, spread
from orchestrator.integrity.fitting import fit
from orchestrator.integrity.rounding import Rounding

# Two scales are one where they differ by less, as logarithms of base 2: 16 bits tell no more.
_SAME_SCALE = 2.0**-7
_SUPERBLOCK_SHARE = 0.9


def is_one_scale(found: AxisFit) -> bool:
    """Whether all blocks have the same scale; of a floating-point grid, but for powers of two."""
    logs = np.log2(np.abs(found.scales))
    if found.grid.is_float:
        logs = (logs - logs[0] + 0.5) % 1
    return bool(np.ptp(logs) <= _SAME_SCALE)


def scale_kind(found: AxisFit, rounding: Rounding) -> ScaleKind:
    """How the scales of a tensor's blocks were kept."""
    scales = np.abs(found.scales)
    if found.grid.name.startswith("FP"):
        logs = np.log2(scales)
        if np.abs(logs - np.rint(logs)).max() <= _SAME_SCALE:
            return "power of two"
    if found.grid.name == "FP4 E2M1" and not found.is_whole:
        fp8 = next(grid for grid in GRIDS if grid.name == "FP8 E4M3")
        if fit(scales[None, :], fp8, rounding).share == 1:
            return "fp8"
    if any(_in_superblocks(found, each, rounding) for each in _superblocks(found)):
        return "superblock"
    return "free"


def _superblocks(found: AxisFit) -> Iterator[Superblock]:
    for each in SUPERBLOCKS:
        if (each.grid, each.block) == (found.grid.name, found.block):
            yield each


def _in_superblocks(found: AxisFit, superblock: Superblock, rounding: Rounding) -> bool:
    """Whether the scales are whole numbers times one of their superblock."""
    a_superblock = superblock.weights // superblock.block
    if found.axis.values.shape[1] < superblock.weights:
        return False
    blocks = found.axis.blocks(superblock.weights)
    some = spread(blocks, DECIDING_WEIGHTS // superblock.weights)
    scales = fit(some.reshape(-1, superblock.block), found.grid, rounding).scales
    grid = Grid("scales", 0, superblock.levels, superblock.tops, "")
    of_scales = fit(scales.reshape(-1, a_superblock), grid, rounding)
    return (
        of_scales.share >= _SUPERBLOCK_SHARE and of_scales.total_log10_chance <= TOTAL_LOG10_CHANCE
    )
