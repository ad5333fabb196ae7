"""The arithmetic, against values worked out another way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator import statistics

values = st.lists(st.floats(0.1, 100), min_size=2, max_size=30).map(np.array)


@given(values)
def test_the_mean_has_the_textbook_error_and_interval(column: np.ndarray) -> None:
    estimate = statistics.mean(column)
    stderr = float(stats.sem(column))
    assert estimate.value == pytest.approx(column.mean())
    assert estimate.stderr == pytest.approx(stderr, abs=1e-9)
    if stderr > 1e-9:
        interval = stats.t.interval(0.95, len(column) - 1, column.mean(), stderr)
        assert estimate.interval95 == pytest.approx(interval)


def test_perplexity_is_weighted_by_token_not_by_window() -> None:
    # A window of 1 token at 10 nats and one of 9 tokens at 1 nat each.
    estimate = statistics.perplexity(np.array([10.0, 9.0]), np.array([1.0, 9.0]))
    assert estimate.value == pytest.approx(math.exp(19 / 10))


def test_word_perplexity_scales_the_exponent() -> None:
    nll, tokens = np.array([4.0, 6.0]), np.array([2.0, 2.0])
    word = statistics.perplexity(nll, tokens, scale=1.5)
    assert word.value == pytest.approx(math.exp(2.5 * 1.5))


def test_the_ratios_error_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(50, 100, 400).astype(np.float64)
    nll = tokens * generator.normal(3, 0.4, 400)
    estimate = statistics.ratio(nll, tokens)
    draws = generator.integers(0, 400, (4000, 400))
    bootstrap = (nll[draws].sum(1) / tokens[draws].sum(1)).std()
    assert estimate.stderr == pytest.approx(bootstrap, rel=0.05)


def test_pairing_takes_out_what_the_windows_share() -> None:
    generator = np.random.default_rng(1)
    tokens = np.full(50, 100.0)
    reference = tokens * generator.normal(3, 0.5, 50)
    candidate = reference + tokens * 0.01
    change = statistics.change_pct_of_exponent(candidate, reference, tokens)
    assert change.value == pytest.approx(100 * math.expm1(0.01))
    assert change.interval95 == pytest.approx((change.value, change.value), abs=1e-6)


@given(values)
def test_a_variant_against_itself_has_no_change(column: np.ndarray) -> None:
    ones = np.ones_like(column)
    for change in (
        statistics.change_pct_of_mean(column, column),
        statistics.change_pct_of_ratio((ones, column), (ones, column)),
        statistics.change_pct_of_exponent(column, column, ones),
    ):
        assert change.value == pytest.approx(0, abs=1e-9)
        assert change.stderr == pytest.approx(0, abs=1e-9)


def test_the_paired_change_of_a_mean_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(2)
    reference = generator.gamma(9, 1, 300)
    candidate = reference * generator.normal(1.2, 0.1, 300)
    change = statistics.change_pct_of_mean(candidate, reference)
    draws = generator.integers(0, 300, (4000, 300))
    bootstrap = 100 * (candidate[draws].mean(1) / reference[draws].mean(1))
    assert change.value == pytest.approx(100 * (candidate.mean() / reference.mean() - 1))
    assert change.stderr == pytest.approx(bootstrap.std(), rel=0.05)


def test_one_unit_gives_no_uncertainty() -> None:
    estimate = statistics.mean(np.array([3.0]))
    assert (estimate.value, estimate.stderr, estimate.interval95, estimate.n) == (3, None, None, 1)
