"""The arithmetic, against values worked out another way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from orchestrator.figures import estimates
from orchestrator.figures.pairs import holm, p_value

values = st.lists(st.floats(0.1, 100), min_size=2, max_size=30).map(np.array)


@given(values)
def test_the_mean_has_the_textbook_error_and_interval(column: np.ndarray) -> None:
    estimate = estimates.mean(column)
    stderr = float(stats.sem(column))
    assert estimate.value == pytest.approx(column.mean())
    assert estimate.stderr == pytest.approx(stderr, abs=1e-9)
    if stderr > 1e-9:
        interval = stats.t.interval(0.95, len(column) - 1, column.mean(), stderr)
        assert estimate.interval(0.95) == pytest.approx(interval)


def test_perplexity_is_weighted_by_token_not_by_window() -> None:
    # A window of 1 token at 10 nats and one of 9 tokens at 1 nat each.
    estimate = estimates.perplexity(np.array([10.0, 9.0]), np.array([1.0, 9.0]))
    assert estimate.value == pytest.approx(math.exp(19 / 10))


def test_word_perplexity_scales_the_exponent() -> None:
    nll, tokens = np.array([4.0, 6.0]), np.array([2.0, 2.0])
    word = estimates.perplexity(nll, tokens, scale=1.5)
    assert word.value == pytest.approx(math.exp(2.5 * 1.5))


def test_the_ratios_error_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(50, 100, 400).astype(np.float64)
    nll = tokens * generator.normal(3, 0.4, 400)
    estimate = estimates.ratio(nll, tokens)
    draws = generator.integers(0, 400, (4000, 400))
    bootstrap = (nll[draws].sum(1) / tokens[draws].sum(1)).std()
    assert estimate.stderr == pytest.approx(bootstrap, rel=0.05)


def test_pairing_takes_out_what_the_windows_share() -> None:
    generator = np.random.default_rng(1)
    tokens = np.full(50, 100.0)
    reference = tokens * generator.normal(3, 0.5, 50)
    candidate = reference + tokens * 0.01
    change = estimates.change_pct_of_exponent(candidate, reference, tokens)
    assert change.value == pytest.approx(100 * math.expm1(0.01))
    assert change.interval(0.95) == pytest.approx((change.value, change.value), abs=1e-6)


@given(values)
def test_a_variant_against_itself_has_no_change(column: np.ndarray) -> None:
    ones = np.ones_like(column)
    for change in (
        estimates.change_pct_of_mean(column, column),
        estimates.change_pct_of_ratio((ones, column), (ones, column)),
        estimates.change_pct_of_exponent(column, column, ones),
    ):
        assert change.value == pytest.approx(0, abs=1e-9)
        assert change.stderr == pytest.approx(0, abs=1e-9)


def test_the_paired_change_of_a_mean_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(2)
    reference = generator.gamma(9, 1, 300)
    candidate = reference * generator.normal(1.2, 0.1, 300)
    change = estimates.change_pct_of_mean(candidate, reference)
    draws = generator.integers(0, 300, (4000, 300))
    bootstrap = 100 * (candidate[draws].mean(1) / reference[draws].mean(1))
    assert change.value == pytest.approx(100 * (candidate.mean() / reference.mean() - 1))
    assert change.stderr == pytest.approx(bootstrap.std(), rel=0.05)


def test_one_unit_gives_no_uncertainty() -> None:
    estimate = estimates.mean(np.array([3.0]))
    assert (estimate.value, estimate.stderr, estimate.interval(0.95), estimate.n) == (
        3,
        None,
        None,
        1,
    )


@given(values)
def test_a_surer_interval_is_a_wider_one_by_student_s_t(column: np.ndarray) -> None:
    estimate = estimates.mean(column)
    (low, high), (lower, higher) = (estimate.interval(c) or (0, 0) for c in (0.95, 0.99))
    n = len(column)
    factor = stats.t.ppf(0.995, n - 1) / stats.t.ppf(0.975, n - 1)
    assert higher - lower == pytest.approx(factor * (high - low), abs=1e-9)


def test_an_interval_ends_where_the_figure_cannot_be() -> None:
    estimate = estimates.within(estimates.mean(np.array([0.0, 1.0])), least=0.0, most=1.0)
    assert estimate.interval(0.95) == (0.0, 1.0)
    # A mean that rounding puts a hair below nothing lies in its interval.
    tiny = estimates.within(estimates.mean(np.array([-1e-8, -1e-8])), least=0.0)
    assert tiny.interval(0.95) == (-1e-8, -1e-8)
    # No token is likelier than sure: a perplexity is 1 or more.
    few = estimates.perplexity(np.array([0.0, 3.0]), np.ones(2))
    assert few and (few.interval(0.95) or (0, 0))[0] == 1.0


hits_and_counts = st.lists(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=2,
    max_size=12,
).map(lambda pairs: tuple(np.array(pairs, dtype=np.float64).T))


@given(hits_and_counts, st.sampled_from([0.95, 0.99]))
def test_a_share_s_interval_is_never_of_zero_width_and_never_beyond_all_or_none(
    units: tuple[np.ndarray, np.ndarray], confidence: float
) -> None:
    hits, counts = units
    estimate = estimates.share(hits, counts, draws=len(hits))
    low, high = estimate.interval(confidence) or (9, 9)
    assert 0 <= low < high <= 1
    assert low <= estimate.value == hits.sum() / counts.sum() <= high


@given(st.integers(2, 400), st.data())
def test_a_share_of_single_things_has_wilson_s_interval_by_student_s_t(
    n: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, n))
    found = estimates.share(np.repeat([1.0, 0.0], [count, n - count]), np.ones(n), draws=n)
    # Their variance is estimated: over n - 1, which makes them worth one draw less.
    worth = n if count in (0, n) else n - 1
    p, z = count / n, stats.t.ppf(0.975, n - 1)
    middle = (p + z * z / (2 * worth)) / (1 + z * z / worth)
    half = z / (1 + z * z / worth) * math.sqrt(p * (1 - p) / worth + z * z / (4 * worth**2))
    assert found.interval(0.95) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_a_share_s_draws_are_divided_by_the_design_effect() -> None:
    # Ten units that are alike within and not among themselves are worth ten draws, less one.
    hits, counts = np.repeat([100.0, 0.0], 5), np.full(10, 100.0)
    assert estimates.design_effect(hits, counts) == pytest.approx(100 * 10 / 9)
    together = estimates.share(hits, counts, draws=10).interval(0.95)
    assert together == pytest.approx(
        estimates.share(hits / 100, counts / 100, draws=10).interval(0.95)
    )
    # Of units that are more alike than chance would have them none is worth more.
    assert estimates.design_effect(np.full(10, 50.0), counts) == 1


def test_where_all_are_hits_the_design_effect_is_another_s_or_a_window_is_a_draw() -> None:
    counts = np.full(3, 1000.0)
    assert estimates.design_effect(counts, counts) is None
    alone = estimates.share(counts, counts, draws=24).interval(0.95)
    squared = stats.t.ppf(0.975, 2) ** 2
    assert alone == pytest.approx((1 / (1 + squared / 24), 1.0))
    by_another = estimates.share(counts, counts, draws=24, effect=10.0).interval(0.95)
    assert by_another == pytest.approx((1 / (1 + squared / 300), 1.0))
    # A design effect of many tokens leaves a bucket of few at least a draw a window.
    assert estimates.share(counts, counts, draws=24, effect=1e6).interval(0.95) == alone


def test_the_autocorrelation_is_of_each_with_the_next() -> None:
    assert estimates.autocorrelation(np.array([1.0, 1, -1, -1, 1, 1, -1, -1])) == 1 / 8
    assert estimates.autocorrelation(np.array([1.0, -1.0] * 50)) == pytest.approx(-0.99)
    assert estimates.autocorrelation(np.ones(9)) is None
    assert estimates.autocorrelation(np.array([1.0, 2.0])) is None


def windows_with_a_common_part(generator: np.random.Generator, counts: np.ndarray) -> np.ndarray:
    """Tokens of mean 0, those of a window alike: part its own, part a walk that forgets slowly."""
    found = []
    for count in counts:
        steps = generator.exponential(1, count) - 1
        walk = lfilter([1], [1, -0.8], steps)
        found.append(0.5 * generator.normal() + 0.3 * walk)
    return np.concatenate(found)


def test_intervals_by_windows_cover_and_those_by_tokens_do_not() -> None:
    """Over many sets of windows, how often the interval holds the true mean."""
    generator = np.random.default_rng(3)
    by_windows = by_tokens = 0
    repetitions = 3000
    for _ in range(repetitions):
        counts = generator.integers(20, 60, 24)
        values = windows_with_a_common_part(generator, counts)
        firsts = np.cumsum(counts) - counts
        estimate = estimates.ratio(np.add.reduceat(values, firsts), counts.astype(float))
        low, high = estimate.interval(0.95) or (0, 0)
        by_windows += low <= 0 <= high
        by_tokens += abs(estimate.value) <= 1.96 * (estimates.stderr_of_mean(values) or 0)
    assert 0.93 <= by_windows / repetitions <= 0.97
    assert by_tokens / repetitions <= 0.6


def test_intervals_of_percentiles_cover_in_the_middle_and_less_in_the_tail() -> None:
    generator = np.random.default_rng(4)
    percents = [25, 50, 75, 95]
    truth = np.percentile(windows_with_a_common_part(generator, np.full(20_000, 40)), percents)
    repetitions = 200
    covered = np.zeros(len(percents))
    for _ in range(repetitions):
        counts = generator.integers(20, 60, 24)
        values = windows_with_a_common_part(generator, counts)
        found = np.array(
            estimates.percentile_intervals(values, np.repeat(np.arange(24), counts), percents, 0.95)
        )
        covered += (found[:, 0] <= truth) & (truth <= found[:, 1])
    middle, tail = covered[:3] / repetitions, covered[3] / repetitions
    assert ((middle >= 0.91) & (middle <= 0.99)).all()
    assert 0.8 <= tail < 0.95


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 7.0]), min_size=1, max_size=9),
        min_size=6,
        max_size=9,
    )
)
def test_a_bootstrap_by_weights_is_one_that_draws_whole_windows(windows: list[list[float]]) -> None:
    percents = [99.9, 90, 50, 1]
    n = len(windows)

    def of_drawn(drawn: np.ndarray, axis: int) -> np.ndarray:
        tokens = (np.concatenate([windows[place] for place in row]) for row in drawn)
        return np.stack([np.percentile(t, percents) for t in tokens], axis=1)

    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    expected = stats.bootstrap(
        (np.arange(n),),
        of_drawn,
        vectorized=True,
        n_resamples=1000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    units = np.repeat(np.arange(n), [len(window) for window in windows])
    found = estimates.percentile_intervals(np.concatenate(windows), units, percents, 0.95)
    assert np.array(found) == pytest.approx(np.stack(expected, axis=1))


def test_the_percentiles_of_fewer_than_six_units_have_no_interval() -> None:
    values = np.arange(60.0)
    assert estimates.percentile_intervals(values, np.arange(60) % 5, [50], 0.95) is None
    assert estimates.percentile_intervals(values, np.arange(60) % 6, [50], 0.95) is not None


@given(values)
def test_the_error_by_tokens_is_the_textbook_one(column: np.ndarray) -> None:
    assert estimates.stderr_of_mean(column) == pytest.approx(float(stats.sem(column)), abs=1e-9)


def test_one_token_has_no_error() -> None:
    assert estimates.stderr_of_mean(np.array([3.0])) is None


@given(values)
def test_the_p_value_is_that_of_a_t_test(column: np.ndarray) -> None:
    estimate = estimates.mean(column - 50)
    if not estimate.stderr or estimate.stderr < 1e-9:
        return
    expected = stats.ttest_1samp(column, 50).pvalue
    found = p_value(estimate.value, estimate.stderr, estimate.n)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_difference_without_spread_is_certain_or_none() -> None:
    assert p_value(0.1, 0.0, 5) == 0
    assert p_value(0.0, 0.0, 5) == 1


def test_holm_s_correction_worked_by_hand() -> None:
    # In order 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_s_correction_rejects_what_the_procedure_rejects(p_values: list[float]) -> None:
    """Step down: the smallest against 5%/n, the next against 5%/(n-1), until one is not below."""
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if not p_values[place] * (len(p_values) - rank) < 0.05:
            break
        rejected.add(place)
    adjusted = holm(p_values)
    assert {place for place, p in enumerate(adjusted) if p < 0.05} == rejected
