"""Candidates' tokens → which of each two is further from the reference, if that can be told. Pure.

Both are held against the same reference over the same windows, so that what a window is like
drops out of their difference.
"""

from collections.abc import Mapping
from itertools import combinations

from orchestrator.comparison_schema import Pair, TokenMeasure
from orchestrator.figures import estimates
from orchestrator.figures.sample import Sample


def pairs_of(candidates: Mapping[str, Sample], confidence: float) -> list[Pair]:
    """Every two candidates that have the same windows.

    Args:
        candidates: by variant; at least one window, and nothing but finite ones.
        confidence: a difference is significant whose p-value is below what this leaves.
    """
    chosen = [
        (a, b)
        for a, b in combinations(candidates, 2)
        if candidates[a].tokens.windows.tolist() == candidates[b].tokens.windows.tolist()
    ]
    differences = [
        [
            _difference(candidates[a], candidates[b], column)
            for column in ("kl", "negative_log_likelihood")
        ]
        for a, b in chosen
    ]
    p_values = [_p_value(kl) for kl, _ in differences]
    known = [p for p in p_values if p is not None]
    adjusted = iter(estimates.holm(known))
    found = []
    for (a, b), (kl, log_perplexity), p in zip(chosen, differences, p_values, strict=True):
        p_holm = None if p is None else next(adjusted)
        found.append(
            Pair(
                a=a,
                b=b,
                kl_difference=kl,
                log_perplexity_difference=log_perplexity,
                p_value=p,
                p_value_holm=p_holm,
                significant=p_holm is not None and p_holm < 1 - confidence,
            )
        )
    return found


def _p_value(difference: TokenMeasure) -> float | None:
    if difference.value is None or difference.stderr is None:
        return None
    return estimates.p_value(difference.value, difference.stderr, difference.n)


def _difference(a: Sample, b: Sample, column: str) -> TokenMeasure:
    return a.mean(a.tokens.column(column) - b.tokens.column(column))
