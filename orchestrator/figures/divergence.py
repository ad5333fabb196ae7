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
from orchestrator.figures.sample import Sample
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


def same_top_effect(sample: Sample) -> float | None:
    """The design effect of the same top token over all of a variant's tokens."""
    counts, hits = sample.sums(sample.tokens.column("same_top_token"))
    return estimates.design_effect(hits, counts) if len(counts) else None


def divergence_of(
    sample: Sample, texts: pa.Table, noise_floor: NoiseFloor | None, effect: float | None = None
) -> Divergence:
    """How far a variant is from the reference, over all of its tokens.

    Args:
        sample: at least one token, and nothing but finite windows.
        texts: the rows of the table `worst_tokens` that are the variant's.
        noise_floor: what its mean KL is held against.
        effect: the design effect of a same top token that all or none have.
    """
    tokens = sample.tokens
    own = tokens.column("negative_log_likelihood")
    reference = tokens.column("reference_negative_log_likelihood")
    return Divergence(
        kl=_kl(sample, texts, noise_floor, effect),
        same_top_token=sample.share(tokens.column("same_top_token"), effect=effect),
        probability_change=_probability_change(sample),
        perplexity_ratio=_perplexity_ratio(sample, own - reference),
        log_perplexity_correlation=estimates.correlation(own, reference),
    )


def noise_floor_of(
    sample: Sample, rows: pa.Table, effect: float | None = None
) -> NoiseFloor | None:
    """The reference against itself.

    Args:
        sample, rows: of the stage `noise`.
        effect: as of `divergence_of`.

    Returns:
        None where there are none, or some are not finite numbers.
    """
    tokens = sample.tokens
    if not len(rows) or not finite_windows(tokens).all():
        return None
    kl = tokens.column("kl")
    longest = int(tokens.counts.max())
    return NoiseFloor(
        how=f"{tokens.variant} against itself with {rows['other_order'][0]}: {len(rows)} windows, "
        f"up to {longest} tokens of each",
        kl=sample.mean(kl, least=0.0),
        same_top_token=sample.share(tokens.column("same_top_token"), effect=effect),
        distribution=_distribution(kl),
        factor=_NOISE_FACTOR,
        resolution=_RESOLUTION,
    )


def _kl(
    sample: Sample, texts: pa.Table, noise_floor: NoiseFloor | None, effect: float | None
) -> KLDivergence:
    kl = sample.tokens.column("kl")
    mean = sample.mean(kl, least=0.0)
    levels, intervals = _percentiles(sample, kl)
    return KLDivergence(
        mean=mean,
        reverse_mean=sample.mean(sample.tokens.column("reverse_kl"), least=0.0),
        maximum=float(kl.max()),
        minimum=float(kl.min()),
        percentiles=levels,
        percentiles_interval=intervals,
        distribution=_distribution(kl),
        by_confidence=by_confidence(sample, effect),
        by_position=by_position(sample, effect),
        worst_tokens=worst_tokens_of(sample.tokens, texts),
        identical=sample.is_identical,
        indistinguishable=_indistinguishable(mean, noise_floor),
    )


def _indistinguishable(mean: TokenMeasure, noise_floor: NoiseFloor | None) -> bool | None:
    """Whether the whole interval is no more than rounding makes: of none that is not shown."""
    if noise_floor is None or noise_floor.kl.value is None:
        return None
    most = max(noise_floor.factor * noise_floor.kl.value, noise_floor.resolution)
    return mean.interval is not None and mean.interval[1] <= most


def _probability_change(sample: Sample) -> ProbabilityChange:
    change = sample.tokens.column("probability_change")
    squares = np.square(change)
    counts, summed = sample.sums(squares)
    rms = estimates.within(estimates.root_mean_square(summed, counts), most=1.0)
    of_squares = estimates.stderr_of_mean(squares)
    # The error of a square root by linearization, as for stretches.
    halved = None if of_squares is None else of_squares / (2 * rms.value) if rms.value else 0.0
    levels, intervals = _percentiles(sample, change)
    return ProbabilityChange(
        mean=sample.mean(change, least=-1.0, most=1.0),
        rms=sample.measure(rms, halved, len(sample.tokens.counts)),
        maximum=float(change.max()),
        minimum=float(change.min()),
        percentiles=levels,
        percentiles_interval=intervals,
    )


def _perplexity_ratio(sample: Sample, difference: Array) -> TokenMeasure | None:
    """Of a token's negative log-likelihood under the variant less that under the reference."""
    counts, differences = sample.sums(difference)
    ratio = estimates.exponential(estimates.ratio(differences, counts))
    if ratio is None:
        return None
    stderr = estimates.stderr_of_mean(difference)
    of_ratio = None if stderr is None else ratio.value * stderr
    return sample.measure(ratio, of_ratio, len(sample.tokens.counts))


def _percentiles(sample: Sample, values: Array) -> tuple[Percentiles, PercentileIntervals]:
    percents = [float(name) for name in PERCENTILES]
    levels = np.percentile(values, percents).tolist()
    intervals = (
        [(level, level) for level in levels]
        if sample.is_identical and not np.ptp(values)
        else estimates.percentile_intervals(
            values, sample.token_units, percents, sample.units.confidence
        )
    )
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
