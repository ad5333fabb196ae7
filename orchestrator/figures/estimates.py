"""Columns of tables → figures with their uncertainty. Pure; numpy and scipy.

A unit (a stretch of windows, a prompt) is taken as independent of the others; the tokens within one
are not. Standard errors of ratios and their logarithms are by linearization over units (the delta
method, Cochran 1977, chapter 6), intervals by Student's t with one degree of freedom less than
units.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Interval = tuple[float, float]

# Of a bootstrap, with its seed: the same columns give the same interval.
_RESAMPLES = 1000
_SEED = 0
# Fewer draw the same few sets of themselves again and again.
_FEWEST_UNITS_TO_RESAMPLE = 6


@dataclass(frozen=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        stderr: None where there are too few units for one.
        n: units.
        ends: the interval of a confidence; None where there are too few units for one.
        is_exact: whether it is the same for all units there could be.
    """

    value: float
    stderr: float | None
    n: int
    ends: Callable[[float], Interval | None]
    is_exact: bool = False

    def interval(self, confidence: float) -> Interval | None:
        """Its interval at a confidence below 1."""
        return self.ends(confidence)


def ratio(
    numerator: Array, denominator: Array, *, least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """A sum over units divided by another sum over the same units.

    Args:
        numerator, denominator: float64 `[units]`, at least one; the denominator's sum is not 0.
        least, most: what it can be, as of `within`.
    """
    total = float(denominator.sum())
    value = float(numerator.sum()) / total
    residuals = (numerator - value * denominator) / total
    return within(_by_t(value, _stderr_of_sum(residuals), len(residuals)), least, most)


def mean(values: Array, *, least: float = -math.inf) -> Estimate:
    """The mean of a unit's value, with its standard error s/√n; not below `least`."""
    return ratio(values, np.ones_like(values), least=least)


def within(estimate: Estimate, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """An estimate whose interval has nothing that the figure cannot be."""

    def ends(confidence: float) -> Interval | None:
        found = estimate.interval(confidence)
        if found is None:
            return None
        # Rounding may put the figure itself a hair beyond.
        low, high = min(least, estimate.value), max(most, estimate.value)
        return max(found[0], low), min(found[1], high)

    return replace(estimate, ends=ends)


def exactly(estimate: Estimate) -> Estimate:
    """An estimate of what is the same everywhere, by what it is and not by chance."""
    return replace(estimate, ends=lambda _: (estimate.value, estimate.value), is_exact=True)


def design_effect(hits: Array, counts: Array) -> float | None:
    """How many times larger the variance of a share is than if all its members were independent.

    Args:
        hits, counts: of each unit, what has the property and what could have it.

    Returns:
        At least 1; None where it cannot be estimated: of one unit, and where all or none are hits.
    """
    share_of_all = float(hits.sum() / counts.sum())
    error = ratio(hits, counts).stderr
    if error is None or share_of_all in (0.0, 1.0):
        return None
    return max(1.0, error**2 * float(counts.sum()) / (share_of_all * (1 - share_of_all)))


def share(hits: Array, counts: Array, draws: int, effect: float | None = None) -> Estimate:
    """A share, with Wilson's interval (1927) of as many draws as its units are worth.

    The members are divided by the design effect, and the normal quantile is Student's t (Korn and
    Graubard 1998 do both to Clopper and Pearson's interval). It is never of zero width, and lies
    within 0 and 1.

    Args:
        hits, counts: float64 `[units]`; what has the property and what could have it.
        draws: what the members are worth at least where all or none are hits.
        effect: the design effect there; as many draws as said without one.
    """
    total, n = float(counts.sum()), len(counts)
    own = design_effect(hits, counts)
    if own is not None:
        worth = total / own
    else:
        worth = max(float(draws), 0.0 if effect is None else total / effect)
    value = float(hits.sum()) / total

    def ends(confidence: float) -> Interval | None:
        if n < 2:
            return None
        squared = _t(confidence, n) ** 2 / worth
        middle = (value + squared / 2) / (1 + squared)
        half = math.sqrt(squared * (value * (1 - value) + squared / 4)) / (1 + squared)
        # Rounding apart, it ends at 0 or 1 where nothing or all are hits.
        return max(0.0, min(middle - half, value)), min(1.0, max(middle + half, value))

    return Estimate(value, ratio(hits, counts).stderr, n, ends)


def perplexity(
    negative_log_likelihood: Array, tokens: Array, scale: float = 1.0
) -> Estimate | None:
    """exp(scale · ΣNLL / Σtokens), with an interval that is symmetric in the exponent.

    None where it is beyond the largest number: text without spaces has few words for its tokens.

    Args:
        negative_log_likelihood: by unit, natural logarithm.
        tokens: scored, by unit.
        scale: 1 for a token's perplexity, tokens per word for a word's.
    """
    found = exponential(scaled(ratio(negative_log_likelihood, tokens), scale))
    return None if found is None else within(found, least=1.0)


def exponential(exponent: Estimate) -> Estimate | None:
    """exp of an estimate; None where it is beyond the largest number."""
    try:
        value = math.exp(exponent.value)
    except OverflowError:
        return None
    stderr = None if exponent.stderr is None else value * exponent.stderr
    return _mapped(exponent, value, stderr, math.exp)


def root_mean_square(squares: Array, tokens: Array) -> Estimate:
    """√(Σsquares / Σtokens); its interval is that of the mean square, less what is below 0.

    Args:
        squares, tokens: summed by unit.
    """
    square = ratio(squares, tokens)
    value = math.sqrt(square.value)
    # The error of a square root by linearization; of 0 it is 0, since all squares are.
    stderr = None if square.stderr is None else square.stderr / (2 * value) if value else 0.0
    return _mapped(square, value, stderr, lambda bound: math.sqrt(max(0.0, bound)))


def correlation(first: Array, second: Array) -> float | None:
    """Pearson's correlation; None where one of the two is constant."""
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return None
    return float(np.corrcoef(first, second)[0, 1])


def autocorrelation(values: Array) -> float | None:
    """The correlation of each value with the next one, at lag 1; None of fewer than 3, or equal."""
    deviations = values - values.mean() if len(values) > 2 else np.zeros(1)
    squares = float(np.square(deviations).sum())
    return float((deviations[:-1] * deviations[1:]).sum()) / squares if squares else None


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """An estimate times a known positive constant."""
    stderr = None if estimate.stderr is None else estimate.stderr * factor
    return _mapped(estimate, estimate.value * factor, stderr, lambda bound: bound * factor)


def change_pct_of_exponent(
    candidate: Array, reference: Array, tokens: Array, scale: float = 1.0
) -> Estimate | None:
    """The change of a perplexity in percent, paired: the same windows under both variants.

    None where it is beyond the largest number.

    Args:
        candidate, reference: negative log-likelihood by unit.
        tokens: scored, by unit, the same for both.
    """
    return _percent(scaled(ratio(candidate - reference, tokens), scale))


def change_pct_of_ratio(
    candidate: tuple[Array, Array], reference: tuple[Array, Array]
) -> Estimate | None:
    """The change of a ratio of sums in percent, paired over units; None as above.

    Args:
        candidate, reference: numerator and denominator by unit, all sums positive.
    """
    log_change = 0.0
    influence = np.zeros_like(candidate[0])
    for sign, values in zip(
        (1, -1, -1, 1), (candidate[0], candidate[1], reference[0], reference[1]), strict=True
    ):
        total = float(values.sum())
        log_change += sign * math.log(total)
        influence += sign * values / total
    residuals = influence - influence.mean()
    return _percent(_by_t(log_change, _stderr_of_sum(residuals), len(residuals)))


def change_pct_of_mean(candidate: Array, reference: Array) -> Estimate | None:
    """The change of a mean in percent, paired over units; both means are positive."""
    ones = np.ones_like(candidate)
    return change_pct_of_ratio((candidate, ones), (reference, ones))


def stderr_of_mean(values: Array) -> float | None:
    """s/√n, each value taken for a draw of its own; None for fewer than two.

    Of tokens it is what llama.cpp's `perplexity --kl-divergence` prints. It is too small where
    tokens that are near each other resemble each other.
    """
    n = len(values)
    return float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None


def percentile_intervals(
    values: Array, units: Integers, percents: Sequence[float], confidence: float
) -> list[Interval] | None:
    """Intervals of percentiles of tokens, by a bootstrap over units.

    Whole units are drawn with replacement. The interval is the expanded percentile one (Hesterberg
    2015, section 3.3), which is as much wider as Student's t asks for with few units. It covers
    quartiles well; of the outermost percentiles few units know too little, and the interval is too
    narrow (docs/statistics.md).

    Args:
        values: of every token.
        units: the number of each one's unit, from 0; each has at least one.

    Returns:
        A pair for each percentage; None for fewer than 6 units.
    """
    n = int(units.max()) + 1
    if n < _FEWEST_UNITS_TO_RESAMPLE:
        return None
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], units[order]
    fractions = np.asarray(percents) / 100
    # Memory that each resample uses again: to be given new one takes longer than the sums.
    ends = np.empty(len(values), dtype=np.int64)

    def of_drawn(drawn: Integers) -> Array:
        weights = np.bincount(drawn, minlength=n)
        np.take(weights, owner, out=ends, mode="clip")
        np.cumsum(ends, out=ends)
        places = fractions * (ends[-1] - 1)
        below = places.astype(np.int64)
        low, high = (
            ordered[np.searchsorted(ends, place, side="right")]
            for place in (below, np.minimum(below + 1, ends[-1] - 1))
        )
        return np.asarray(low + (high - low) * (places - below))

    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * _t(confidence, n))
    found = stats.bootstrap(
        (np.arange(n),),
        lambda drawn, axis: np.stack([of_drawn(units) for units in drawn], axis=1),
        n_resamples=_RESAMPLES,
        vectorized=True,
        axis=-1,
        confidence_level=1 - 2 * float(tail),
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    low, high = (np.asarray(bounds).tolist() for bounds in found.confidence_interval)
    return list(zip(low, high, strict=True))


def _stderr_of_sum(residuals: Array) -> float | None:
    n = len(residuals)
    if n < 2:
        return None
    return math.sqrt(n / (n - 1) * float(np.square(residuals).sum()))


def _t(confidence: float, n: int) -> float:
    """The quantile of Student's t that an interval over n units reaches to."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1))


def _by_t(value: float, stderr: float | None, n: int) -> Estimate:
    def ends(confidence: float) -> Interval | None:
        if stderr is None:
            return None
        half = _t(confidence, n) * stderr
        return value - half, value + half

    return Estimate(value, stderr, n, ends)


def _percent(log_change: Estimate) -> Estimate | None:
    def percent(exponent: float) -> float:
        return 100 * math.expm1(exponent)

    try:
        value = percent(log_change.value)
    except OverflowError:
        return None
    stderr = log_change.stderr
    scaled_up = None if stderr is None else 100 * math.exp(log_change.value) * stderr
    return _mapped(log_change, value, scaled_up, percent)


def _mapped(
    estimate: Estimate, value: float, stderr: float | None, function: Callable[[float], float]
) -> Estimate:
    """An increasing function of an estimate; no interval where an end is beyond all numbers."""

    def ends(confidence: float) -> Interval | None:
        found = estimate.interval(confidence)
        try:
            return None if found is None else (function(found[0]), function(found[1]))
        except OverflowError:
            return None

    return Estimate(value, stderr, estimate.n, ends)
