"""How few distinct values blocks hold, and how sure that is, held against real shuffles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestrator.integrity.exchangeability import (
    Occurrences,
    count_distinct,
    expected_distinct,
    holm,
)


def shuffled(values: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed)
    return drawn.permutation(values.ravel()).reshape(values.shape)


def counted(values: NDArray[np.float32], block: int) -> float:
    return float(np.mean([len(set(part.tolist())) for part in values.reshape(-1, block)]))


def few_values(kind: str, seed: int = 0) -> NDArray[np.float32]:
    """Weights whose pool has many values twice and more, as 16 bits make them."""
    drawn = np.random.default_rng(seed)
    gaussian = drawn.normal(0, 1, (64, 128))
    steps = {"coarse": 8.0, "fine": 500.0}[kind]
    return np.asarray(np.rint(gaussian * steps) / steps, np.float32)


@pytest.mark.parametrize("kind", ["coarse", "fine"])
@pytest.mark.parametrize("block", [16, 64, 128])
def test_the_expected_count_is_that_of_shuffles(kind: str, block: int) -> None:
    values = few_values(kind)
    counts = [counted(shuffled(values, seed), block) for seed in range(100)]
    standard_error = np.std(counts) / np.sqrt(len(counts))
    assert expected_distinct(Occurrences.of(values), block) == pytest.approx(
        np.mean(counts), abs=4 * standard_error + 1e-9
    )


def test_the_expected_count_of_a_pool_that_can_be_enumerated() -> None:
    # Of 1, 1, 2 a block of 2 holds one value in one case of three.
    pool = Occurrences.of(np.array([1.0, 1.0, 2.0]))
    assert expected_distinct(pool, 2) == pytest.approx(5 / 3)


@given(st.lists(st.integers(0, 6), min_size=16, max_size=160).map(lambda v: v[: len(v) // 8 * 8]))
def test_a_count_is_what_sets_hold(values: list[int]) -> None:
    array = np.array(values, np.float32).reshape(-1, 8)
    found = count_distinct(array, Occurrences.of(array))
    assert found.distinct == pytest.approx(counted(array, 8))
    assert found.log10_p <= 0


@pytest.mark.parametrize("kind", ["coarse", "fine"])
@pytest.mark.parametrize("block", [16, 64])
def test_the_bound_holds_against_real_shuffles(kind: str, block: int) -> None:
    """Among shuffles a bound of p is undercut at most as often as p says."""
    values = few_values(kind)
    pool = Occurrences.of(values)
    bounds = np.array(
        [
            count_distinct(shuffled(values, seed).reshape(-1, block), pool).log10_p
            for seed in range(1000)
        ]
    )
    for p in (0.5, 0.1, 0.02):
        assert np.mean(bounds <= np.log10(p)) <= p


def test_blocks_of_one_grid_are_beyond_any_chance() -> None:
    drawn = np.random.default_rng(0)
    scales = drawn.uniform(1, 2, (1024, 1))
    blocks = np.asarray(np.rint(drawn.normal(0, 3, (1024, 64))) * scales, np.float32)
    found = count_distinct(blocks, Occurrences.of(blocks))
    assert found.distinct < 20 < 50 < found.expected
    assert found.log10_p < -1000


def test_holm_corrects_the_smallest_most() -> None:
    assert holm([-5.0, -1.0, -2.0]) == pytest.approx(
        [-5 + np.log10(3), -1 + np.log10(1), -2 + np.log10(2)]
    )
    # Corrected, no later one is surer than one before it, and none is beyond 1.
    assert holm([-0.1, -0.1]) == [0.0, 0.0]
    assert holm([-3.0, -2.9]) == pytest.approx([-3 + np.log10(2)] * 2)
