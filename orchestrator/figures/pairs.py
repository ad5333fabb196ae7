"""Candidates' tokens → which of each two is further from the reference, if that can be told. Pure.

Both are held against the same reference over the same windows, so that what a window is like
drops out of their difference.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from orchestrator.comparison_schema import Pair, TokenMeasure
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
    adjusted = iter(holm(known))
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
    return p_value(difference.value, difference.stderr, difference.n)


def _difference(a: Sample, b: Sample, column: str) -> TokenMeasure:
    return a.mean(a.tokens.column(column) - b.tokens.column(column))


def p_value(difference: float, stderr: float, n: int) -> float:
    """How likely a difference as large is if there is none: two-sided, by Student's t.

    Args:
        stderr: its standard error; 0 for a difference that is the same in all units.
        n: units, at least 2.
    """
    if stderr == 0:
        return float(difference == 0)
    return float(2 * stats.t.sf(abs(difference) / stderr, n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for being many (Holm 1979): those below 0.05 hold together at 5%."""
    n = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled_up = np.asarray(p_values, dtype=np.float64)[order] * np.arange(n, 0, -1)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled_up))
    return adjusted.tolist()
