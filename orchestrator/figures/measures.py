"""Estimates → the measures of `comparison.json`."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.comparison_schema import Compared, Measure, TokenMeasure
from orchestrator.figures import estimates
from orchestrator.figures.estimates import Array, Estimate
from orchestrator.storage.tokens import TokenTable


def column(table: pa.Table, name: str) -> Array:
    """A column of numbers as float64 `[rows]`."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def measured(estimate: Estimate | None, n: int) -> Measure:
    """A measure that is held against nothing; None for what there is not."""
    return Measure(
        value=estimate.value if estimate else None,
        stderr=estimate.stderr if estimate else None,
        interval95=estimate.interval95 if estimate else None,
        n=n,
    )


def compared(estimate: Estimate | None, change: Estimate | None, n: int) -> Compared:
    """A measure with its change against the reference; None for what there is not."""
    return Compared(
        **measured(estimate, n).model_dump(),
        delta_pct=change.value if change else None,
        delta_pct_interval95=change.interval95 if change else None,
    )


def token_measure(estimate: Estimate, stderr_tokens: float | None) -> TokenMeasure:
    """A measure over tokens with its two uncertainties."""
    return TokenMeasure(
        value=estimate.value,
        stderr=estimate.stderr,
        interval95=estimate.interval95,
        n=estimate.n,
        stderr_tokens=stderr_tokens,
    )


def mean_of_tokens(
    tokens: TokenTable, values: Array, chosen: NDArray[np.bool_] | None = None
) -> TokenMeasure:
    """The mean of a value over tokens, with windows for units.

    Args:
        values: of every token; finite.
        chosen: over which tokens; None for all. Windows without any are no units. Where there is
            none at all, the measure is null.
    """
    if chosen is None:
        chosen = np.ones(len(values), dtype=np.bool_)
    counts = tokens.sums(chosen.astype(np.float64))
    units = counts > 0
    if not units.any():
        return TokenMeasure(value=None, stderr=None, interval95=None, n=0, stderr_tokens=None)
    sums = tokens.sums(np.where(chosen, values, 0.0))
    estimate = estimates.ratio(sums[units], counts[units])
    return token_measure(estimate, estimates.stderr_of_mean(values[chosen]))
