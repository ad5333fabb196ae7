"""Whether neighbours share a grid: by how few distinct values a block holds.

In random order a tensor's blocks of b hold on average E = Σ_v [1 - C(N - n_v, b) / C(N, b)]
distinct values, where n_v is how often a value occurs among all N. Swapping two values changes the
count of two blocks by at most one each; by McDiarmid's inequality for permutations (On the method
of bounded differences, 1989) a mean of m = N / b blocks that lies d below E has
p ≤ exp(-m·d² / (2b)).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import e, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Count:
    """Distinct values in blocks of one size.

    Attributes:
        block: weights of a block.
        distinct: in a block, on average.
        expected: the same in random order.
        log10_p: a bound of the chance to find so few in random order.
    """

    block: int
    distinct: float
    expected: float
    log10_p: float


@dataclass(frozen=True)
class Occurrences:
    """How often values occur: `times` in rising order, and how many values occur so often."""

    times: NDArray[np.int64]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Occurrences":
        """Those of some values."""
        _, occurrences = np.unique(values, return_counts=True)
        return cls(*np.unique(occurrences, return_counts=True))

    @property
    def total(self) -> int:
        """How many there are, alike or not."""
        return int((self.times * self.values).sum())


def count_distinct(values: NDArray[Any], occurrences: Occurrences) -> Count:
    """Counts distinct values in blocks of neighbours.

    Args:
        values: of shape (blocks, values of a block).
        occurrences: theirs.
    """
    block = values.shape[1]
    ordered = np.sort(values, axis=1)
    found = 1 + float((ordered[:, 1:] != ordered[:, :-1]).sum(1).mean())
    expected = expected_distinct(occurrences, block)
    below = max(0.0, expected - found)
    blocks = len(ordered)
    return Count(block, found, expected, -blocks * below**2 / (2 * block) * log10(e))


def expected_distinct(occurrences: Occurrences, block: int) -> float:
    """How many distinct values a block holds on average if all are in random order, exactly."""
    # Imported here: it takes longer than all the rest that a sweep's start must wait for.
    from scipy.special import gammaln

    total = occurrences.total
    left = total - occurrences.times
    # The chance that none of a block's values is one that occurs so often.
    none = np.zeros(len(left))
    some = left >= block
    none[some] = np.exp(
        gammaln(left[some] + 1)
        - gammaln(left[some] - block + 1)
        - gammaln(total + 1)
        + gammaln(total - block + 1)
    )
    return float((occurrences.values * (1 - none)).sum())


def holm(log10_p: Sequence[float]) -> list[float]:
    """Bounds of chances, corrected for that there are several (Holm, 1979), as logarithms."""
    corrected = [0.0] * len(log10_p)
    most = -np.inf
    for rank, index in enumerate(np.argsort(log10_p, kind="stable")):
        most = max(most, log10_p[index] + log10(len(log10_p) - rank))
        corrected[index] = min(0.0, float(most))
    return corrected
