"""Estimates → the measures of `comparison.json`."""

import numpy as np
import pyarrow as pa

from orchestrator.comparison_schema import Compared, Measure
from orchestrator.figures.estimates import Array, Estimate
from orchestrator.figures.sample import Units


def column(table: pa.Table, name: str) -> Array:
    """A column of numbers as float64 `[rows]`."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def measured(estimate: Estimate | None, units: Units, n: int = 0) -> Measure:
    """A measure that is held against nothing; None for what there is not.

    Args:
        units: that it is over.
        n: how many there are all the same, where there is no estimate.
    """
    return Measure(
        value=estimate.value if estimate else None,
        stderr=estimate.stderr if estimate else None,
        interval=units.interval(estimate) if estimate else None,
        n=estimate.n if estimate else n,
    )


def compared(
    estimate: Estimate | None, change: Estimate | None, units: Units, n: int = 0
) -> Compared:
    """A measure with its change against the reference; None for what there is not."""
    return Compared(
        **measured(estimate, units, n).model_dump(),
        delta_pct=change.value if change else None,
        delta_pct_interval=units.interval(change) if change else None,
    )
