"""A variant's tokens → how far it is from the reference. Pure; a few columns at a time."""

from typing import TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.comparison_schema import (
    PERCENTILES,
    Exceedance,
    KLDivergence,
    NoiseFloor,
    PercentileIntervals,
    Percentiles,
    ProbabilityChange,
    TokenMeasure,
)
from orchestrator.figures import estimates
from orchestrator.figures.buckets import by_confidence, by_position
from orchestrator.figures.estimates import Array
from orchestrator.figures.measures import mean_of_tokens, token_measure
from orchestrator.figures.worst_tokens import worst_tokens_of
from orchestrator.storage.tokens import TokenTable

# What must be finite of a token for any figure to be given.
_COLUMNS = ("kl", "reverse_kl", "negative_log_likelihood", "reference_negative_log_likelihood")
# The distribution is told at powers of ten and seven values between each two, from 1e-8 nats on.
_STEPS_PER_DECADE = 8
_SMALLEST_DECADE = -8
# A mean KL up to so many times that of the noise floor counts as rounding: the floor itself, of
# few windows and one other order of many, is not known better.
_NOISE_FACTOR = 2.0
# Nats; tests hold a token's KL to this, against float64.
_RESOLUTION = 1e-6


class Divergence(TypedDict):
    """The fields of `VariantFigures` that say how far a variant is from the reference."""

    kl: KLDivergence | None
    same_top_token: TokenMeasure | None
    probability_change: ProbabilityChange | None
    perplexity_ratio: TokenMeasure | None
    log_perplexity_correlation: float | None


NO_DIVERGENCE = Divergence(
    kl=None,
    same_top_token=None,
    probability_change=None,
    perplexity_ratio=None,
    log_perplexity_correlation=None,
)


def finite_windows(tokens: TokenTable) -> NDArray[np.bool_]:
    """Whether each window has nothing but finite divergences and likelihoods: bool `[windows]`."""
    bad = sum(tokens.sums((~np.isfinite(tokens.column(name))).astype(float)) for name in _COLUMNS)
    return np.asarray(bad == 0)


def divergence_of(
    tokens: TokenTable, texts: pa.Table, noise_floor: NoiseFloor | None
) -> Divergence:
    """How far a variant is from the reference, over all of its tokens.

    Args:
        tokens: at least one, and nothing but finite windows.
        texts: the rows of the table `worst_tokens` that are the variant's.
        noise_floor: what its mean KL is held against.
    """
    own = tokens.column("negative_log_likelihood")
    reference = tokens.column("reference_negative_log_likelihood")
    return Divergence(
        kl=_kl(tokens, texts, noise_floor),
        same_top_token=mean_of_tokens(tokens, tokens.column("same_top_token")),
        probability_change=_probability_change(tokens),
        perplexity_ratio=_perplexity_ratio(tokens, own - reference),
        log_perplexity_correlation=estimates.correlation(own, reference),
    )


def noise_floor_of(tokens: TokenTable, rows: pa.Table) -> NoiseFloor | None:
    """The reference against itself.

    Args:
        tokens, rows: of the stage `noise`.

    Returns:
        None where there are none, or some are not finite numbers.
    """
    if not len(rows) or not finite_windows(tokens).all():
        return None
    kl = tokens.column("kl")
    longest = int(tokens.counts.max())
    return NoiseFloor(
        how=f"{tokens.variant} against itself with {rows['other_order'][0]}: {len(rows)} windows, "
        f"up to {longest} tokens of each",
        kl=mean_of_tokens(tokens, kl),
        same_top_token=mean_of_tokens(tokens, tokens.column("same_top_token")),
        distribution=_distribution(kl),
        factor=_NOISE_FACTOR,
        resolution=_RESOLUTION,
    )


def _kl(tokens: TokenTable, texts: pa.Table, noise_floor: NoiseFloor | None) -> KLDivergence:
    kl = tokens.column("kl")
    mean = mean_of_tokens(tokens, kl)
    levels, intervals = _percentiles(kl, tokens.counts)
    return KLDivergence(
        mean=mean,
        reverse_mean=mean_of_tokens(tokens, tokens.column("reverse_kl")),
        maximum=float(kl.max()),
        minimum=float(kl.min()),
        percentiles=levels,
        percentiles_interval95=intervals,
        distribution=_distribution(kl),
        by_confidence=by_confidence(tokens),
        by_position=by_position(tokens),
        worst_tokens=worst_tokens_of(tokens, texts),
        indistinguishable=_indistinguishable(mean, noise_floor),
    )


def _indistinguishable(mean: TokenMeasure, noise_floor: NoiseFloor | None) -> bool | None:
    if noise_floor is None or noise_floor.kl.value is None or mean.value is None:
        return None
    return mean.value <= max(noise_floor.factor * noise_floor.kl.value, noise_floor.resolution)


def _probability_change(tokens: TokenTable) -> ProbabilityChange:
    change = tokens.column("probability_change")
    squares = np.square(change)
    rms = estimates.root_mean_square(tokens.sums(squares), tokens.counts.astype(np.float64))
    of_squares = estimates.stderr_of_mean(squares)
    # The error of a square root by linearization, as for windows.
    halved = None if of_squares is None else of_squares / (2 * rms.value) if rms.value else 0.0
    levels, intervals = _percentiles(change, tokens.counts)
    return ProbabilityChange(
        mean=mean_of_tokens(tokens, change),
        rms=token_measure(rms, halved),
        maximum=float(change.max()),
        minimum=float(change.min()),
        percentiles=levels,
        percentiles_interval95=intervals,
    )


def _perplexity_ratio(tokens: TokenTable, difference: Array) -> TokenMeasure | None:
    """Of a token's negative log-likelihood under the variant less that under the reference."""
    counts = tokens.counts.astype(np.float64)
    ratio = estimates.perplexity(tokens.sums(difference), counts)
    if ratio is None:
        return None
    stderr = estimates.stderr_of_mean(difference)
    return token_measure(ratio, None if stderr is None else ratio.value * stderr)


def _percentiles(
    values: Array, counts: NDArray[np.int64]
) -> tuple[Percentiles, PercentileIntervals]:
    percents = [float(name) for name in PERCENTILES]
    levels = np.percentile(values, percents).tolist()
    intervals = estimates.percentile_intervals(values, counts, percents)
    named = None if intervals is None else dict(zip(PERCENTILES, intervals, strict=True))
    return dict(zip(PERCENTILES, levels, strict=True)), named


def _distribution(kl: Array) -> list[Exceedance]:
    """The share of tokens above each value, as far as it is neither all nor none of them."""
    ordered = np.sort(kl)
    found: list[Exceedance] = []
    step = _SMALLEST_DECADE * _STEPS_PER_DECADE
    while not found or found[-1].share > 0:
        value = 10 ** (step / _STEPS_PER_DECADE)
        larger = len(ordered) - int(np.searchsorted(ordered, value, side="right"))
        if found and larger == len(ordered):
            found.pop()
        found.append(Exceedance(kl=value, share=larger / len(ordered)))
        step += 1
    return found
