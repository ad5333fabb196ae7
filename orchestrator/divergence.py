"""A variant's tokens → how far it is from the reference. Pure; one column at a time."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from orchestrator import statistics
from orchestrator.comparison_json import PERCENTILES, KLDivergence, Measure, ProbabilityChange
from orchestrator.statistics import Array, Estimate
from orchestrator.tokens import TokenTable

# What must be finite of a token for any figure to be given.
_COLUMNS = ("kl", "reverse_kl", "negative_log_likelihood", "reference_negative_log_likelihood")


class Divergence(TypedDict):
    """The fields of `VariantFigures` that say how far a variant is from the reference."""

    kl: KLDivergence | None
    same_top_token: Measure | None
    probability_change: ProbabilityChange | None
    perplexity_ratio: Measure | None
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


def divergence_of(tokens: TokenTable) -> Divergence:
    """How far a variant is from the reference, over all of its tokens.

    Args:
        tokens: at least one, and nothing but finite windows.
    """
    counts = tokens.counts.astype(np.float64)

    def mean(values: Array) -> Estimate:
        return statistics.ratio(tokens.sums(values), counts)

    kl, change = tokens.column("kl"), tokens.column("probability_change")
    own = tokens.column("negative_log_likelihood")
    reference = tokens.column("reference_negative_log_likelihood")
    ratio = statistics.perplexity(tokens.sums(own - reference), counts)
    rms = statistics.root_mean_square(tokens.sums(np.square(change)), counts)
    return Divergence(
        kl=KLDivergence(
            mean=_measure(mean(kl)),
            reverse_mean=_measure(mean(tokens.column("reverse_kl"))),
            maximum=float(kl.max()),
            percentiles=_percentiles(kl),
        ),
        same_top_token=_measure(mean(tokens.column("same_top_token"))),
        probability_change=ProbabilityChange(
            mean=_measure(mean(change)), rms=_measure(rms), percentiles=_percentiles(change)
        ),
        perplexity_ratio=None if ratio is None else _measure(ratio),
        log_perplexity_correlation=statistics.correlation(own, reference),
    )


def _percentiles(values: Array) -> dict[str, float]:
    found = np.percentile(values, [float(name) for name in PERCENTILES])
    return dict(zip(PERCENTILES, found.tolist(), strict=True))


def _measure(estimate: Estimate) -> Measure:
    return Measure(
        value=estimate.value,
        stderr=estimate.stderr,
        interval95=estimate.interval95,
        n=estimate.n,
    )
