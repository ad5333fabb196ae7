"""Intervals on real text: how often they hold what is true of all such texts, and gates pass wrong.

A part of `benchmarks/coverage.py`, which prints the tables of `docs/statistics.md`.
"""

import math

import pytest

from benchmarks.coverage import (
    DESIGNS,
    Design,
    Series,
    coverage,
    percentile_coverage,
    wrong_passes,
    wrong_passes_until_decided,
)

DRAWS, GATE_DRAWS = 400, 2000
# Five of a hundred, and twice the error of so many draws.
MOST_WRONG_PASSES = 0.05 + 2 * math.sqrt(0.05 * 0.95 / GATE_DRAWS)


@pytest.fixture(scope="module")
def series() -> Series:
    return Series.read()


@pytest.mark.parametrize("design", DESIGNS[:6], ids=lambda design: design.name)
def test_means_changes_pairs_and_shares_hold_the_truth(design: Design, series: Series) -> None:
    found = coverage(series, design, DRAWS)
    assert all(share >= 0.90 for share in found.values()), found


def test_quartiles_hold_the_truth(series: Series) -> None:
    found = percentile_coverage(series, Design("", 512, 62), 200)
    assert all(share >= 0.90 for share in found), found


@pytest.mark.parametrize("windows", [8, 24, 149])
def test_few_gates_pass_wrongly(windows: int, series: Series) -> None:
    found = wrong_passes(series, windows, GATE_DRAWS)
    assert all(share <= MOST_WRONG_PASSES for share in found.values()), found


def test_nor_do_those_that_are_looked_at_until_they_are_decided(series: Series) -> None:
    found = wrong_passes_until_decided(series, GATE_DRAWS // 2)
    assert all(share <= MOST_WRONG_PASSES for share in found.values()), found


def test_windows_taken_for_units_would_hold_it_far_less_often(series: Series) -> None:
    """What makes stretches necessary: neighbours tell the same story."""
    apart = coverage(series, Design("", 512, 62, apart=True), DRAWS, ["nll", "kl_nf4"])
    assert all(share < 0.7 for share in apart.values()), apart
