"""Blocks made of a grid lie on it, whatever their scale; blocks of anything do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.grids import GRIDS, Grid
from orchestrator.integrity.fitting import fit
from orchestrator.integrity.rounding import BF16, FP16, FP32, Precision, Rounding, Values

BY_NAME = {grid.name: grid for grid in GRIDS}


def rounded(values: Values, precision: Precision) -> Values:
    if precision is FP32:
        return values.astype(np.float32).astype(np.float64)
    spacing = precision.spacing(values)
    return np.asarray(np.rint(values / spacing) * spacing)


def blocks_of(grid: Grid, count: int, length: int, seed: int) -> Values:
    """Blocks of random levels, each with the last one, times a scale of its own."""
    drawn = np.random.default_rng(seed)
    levels = np.array(grid.levels)
    # The most of a floating-point grid's levels are next to nothing.
    common = levels[np.abs(levels) >= np.abs(levels).max() / 2**9] if grid.is_float else levels
    picked = drawn.choice(common, (count, length))
    picked[:, 0], picked[:, 1] = levels[-1], levels[0]
    scales = np.exp(drawn.normal(0, 2, (count, 1)))
    offsets = scales * drawn.integers(-3, 3, (count, 1)) if grid.affine else 0.0
    return np.asarray(picked * scales + offsets)


@given(
    st.sampled_from(GRIDS),
    st.sampled_from([BF16, FP16, FP32]),
    st.sampled_from([64, 128]),
    st.integers(0, 2**32 - 1),
)
def test_levels_times_a_scale_lie_on_their_grid(
    grid: Grid, precision: Precision, length: int, seed: int
) -> None:
    blocks = rounded(blocks_of(grid, 50, length, seed), precision)
    # Of 8 bits in 16 a block in a hundred cannot be told.
    assert fit(blocks, grid, Rounding((precision,))).share >= 0.9


@given(st.sampled_from(GRIDS), st.sampled_from([BF16, FP16]), st.integers(0, 2**32 - 1))
def test_gaussian_blocks_lie_on_none(grid: Grid, precision: Precision, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    blocks = rounded(drawn.normal(0, 0.02, (50, 64)), precision)
    assert fit(blocks, grid, Rounding((precision,))).share <= 0.1


@pytest.mark.parametrize("name", ["INT4 symmetric", "NF4", "FP4 E2M1", "FP8 E4M3"])
def test_a_scale_is_found_to_the_rounding_of_the_weights(name: str) -> None:
    grid = BY_NAME[name]
    blocks = blocks_of(grid, 20, 64, seed=1)
    scales = blocks.max(1) / grid.levels[-1]
    found = fit(rounded(blocks, FP16), grid, Rounding((FP16,)))
    assert found.on_grid.all()
    # Of floating point the scale is known but for a power of two.
    ratio = np.log2(found.scales / scales)
    assert np.abs(ratio - np.rint(ratio)).max() < 2**-8


def test_one_weight_off_the_grid_takes_a_block_off_it() -> None:
    grid = BY_NAME["INT4 symmetric"]
    blocks = blocks_of(grid, 4, 32, seed=2)
    blocks[2, 5] = blocks[2, 0] * 0.4321
    assert fit(blocks, grid, Rounding((FP32,))).on_grid.tolist() == [True, True, False, True]


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_constant_block_tells_nothing(value: float) -> None:
    found = fit(np.full((3, 32), value), BY_NAME["INT4 symmetric"], Rounding((FP16,)))
    assert not found.telling.any()
    assert found.share == 0


def test_where_the_dtype_has_hardly_more_numbers_than_the_grid_chance_explains_it() -> None:
    """Subnormal numbers of float16 are whole steps of one size: a grid, and no sign of one."""
    drawn = np.random.default_rng(0)
    blocks = np.rint(drawn.normal(0, 5, (50, 64))) * 2.0**-24
    found = fit(blocks, BY_NAME["INT6 symmetric"], Rounding((BF16, FP16)))
    assert found.total_log10_chance >= 0


def test_every_grid_holds_its_own_levels_and_no_others() -> None:
    for grid in GRIDS:
        assert list(grid.levels) == sorted(set(grid.levels)), grid.name
        assert len(grid.levels) <= 2**grid.bits, grid.name
    assert BY_NAME["FP4 E2M1"].levels[-4:] == (2.0, 3.0, 4.0, 6.0)
    assert BY_NAME["FP8 E4M3"].levels[-2:] == (416.0, 448.0)
    assert BY_NAME["FP8 E5M2"].levels[-1] == 57344.0
