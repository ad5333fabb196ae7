"""Windows and their tokens → units of uncertainty: what intervals are made of. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator.comparison_schema import TokenMeasure
from orchestrator.comparison_schema.measure_fields import FEWEST_PROMPTS, FEWEST_UNITS
from orchestrator.figures import estimates
from orchestrator.figures.estimates import Array, Estimate, Integers, Interval
from orchestrator.storage.tokens import TokenTable


@dataclass(frozen=True)
class Units:
    """What is taken as independent, and how sure intervals are.

    Attributes:
        confidence: of every interval.
        stretches: the numbers of the windows that begin one; None where each window is a unit, as
            one of a prompt's answer.
        fewest: of fewer there is no interval.
    """

    confidence: float
    stretches: tuple[int, ...] | None = None
    fewest: int = FEWEST_UNITS

    @classmethod
    def of_prompts(cls, confidence: float) -> "Units":
        """Prompts, each by itself: they are independent of each other."""
        return cls(confidence, fewest=FEWEST_PROMPTS)

    def interval(self, estimate: Estimate) -> Interval | None:
        """An estimate's interval; None where there are too few of these for one."""
        if estimate.n < self.fewest and not estimate.is_exact:
            return None
        return estimate.interval(self.confidence)

    def of(self, windows: Integers) -> Integers:
        """The units of windows, numbered from 0 without a gap: those without windows are none.

        Args:
            windows: their numbers in the text, each once.
        """
        if self.stretches is None:
            return np.arange(len(windows))
        found = np.searchsorted(np.asarray(self.stretches), windows, side="right")
        return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64)

    def sums(self, windows: Integers, *columns: Array) -> list[Array]:
        """Values of windows, summed by unit: float64 `[units]` of each column."""
        units = self.of(windows)
        return [np.asarray(np.bincount(units, weights=one), dtype=np.float64) for one in columns]


@dataclass(frozen=True)
class Sample:
    """The tokens of a variant in a stage of windows, with their units."""

    tokens: TokenTable
    units: Units

    @cached_property
    def token_units(self) -> Integers:
        """The unit of each token, numbered without a gap: `[tokens]`."""
        there = self.tokens.counts > 0
        return np.repeat(self.units.of(self.tokens.windows[there]), self.tokens.counts[there])

    @cached_property
    def is_identical(self) -> bool:
        """Whether every prediction is equal to the reference's: the KL of each token is 0."""
        return not self.tokens.column("kl").any()

    def sums(self, *values: Array) -> list[Array]:
        """Values of all tokens, summed by unit.

        Args:
            values: of every token.

        Returns:
            The number of tokens, then the sum of each value: float64 `[units]`.
        """
        return self._by_unit(values, None)[1]

    def mean(
        self,
        values: Array,
        chosen: NDArray[np.bool_] | None = None,
        *,
        least: float = -np.inf,
        most: float = np.inf,
    ) -> TokenMeasure:
        """The mean of a value over tokens.

        Args:
            values: of every token; finite.
            chosen: over which tokens; None for all. Where there is none, the measure is null.
            least, most: what the mean can be.
        """

        def estimate(counts: Array, sums: Array, _: int) -> Estimate:
            return estimates.ratio(sums, counts, least=least, most=most)

        return self._measure(values, chosen, estimate)

    def share(
        self, hits: Array, chosen: NDArray[np.bool_] | None = None, effect: float | None = None
    ) -> TokenMeasure:
        """The share of tokens that have a property.

        Args:
            hits: of every token, 1 where it has, else 0.
            chosen: as of `mean`.
            effect: the design effect where none can be estimated.
        """

        def estimate(counts: Array, sums: Array, windows: int) -> Estimate:
            return estimates.share(sums, counts, windows, effect)

        return self._measure(hits, chosen, estimate)

    def measure(
        self, estimate: Estimate, stderr_tokens: float | None, windows: int
    ) -> TokenMeasure:
        """A measure over tokens with its two uncertainties."""
        return TokenMeasure(
            value=estimate.value,
            stderr=estimate.stderr,
            interval=self.units.interval(estimate),
            n=estimate.n,
            windows=windows,
            stderr_tokens=stderr_tokens,
        )

    def _measure(
        self,
        values: Array,
        chosen: NDArray[np.bool_] | None,
        estimate_of: Callable[[Array, Array, int], Estimate],
    ) -> TokenMeasure:
        """A measure over tokens.

        Args:
            estimate_of: makes it of the tokens' number and sum by unit, and how many windows have
                such tokens.
        """
        taken = values if chosen is None else values[chosen]
        if not len(taken):
            return NO_TOKENS
        windows, (counts, sums) = self._by_unit([values], chosen)
        estimate = estimate_of(counts, sums, windows)
        if self.is_identical and not np.ptp(taken):
            estimate = estimates.exactly(estimate)
        error = estimates.stderr_of_mean(taken)
        return self.measure(estimate, error, windows)

    def _by_unit(
        self, values: Sequence[Array], chosen: NDArray[np.bool_] | None
    ) -> tuple[int, list[Array]]:
        """How many windows have a chosen token, and `sums` over these tokens."""
        if chosen is None:
            counts = self.tokens.counts.astype(np.float64)
        else:
            counts = self.tokens.sums(chosen.astype(np.float64))
            values = [np.where(chosen, one, 0.0) for one in values]
        there = counts > 0
        columns = [self.tokens.sums(one)[there] for one in values]
        found = self.units.sums(self.tokens.windows[there], counts[there], *columns)
        return int(there.sum()), found


NO_TOKENS = TokenMeasure(value=None, stderr=None, interval=None, n=0, windows=0, stderr_tokens=None)
