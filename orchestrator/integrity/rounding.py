"""What a number of 16 or 32 bits may stand for: the rounding of the dtype that it was kept in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Precision:
    """A floating-point dtype.

    Attributes:
        fraction_bits: stored bits of a number's fraction.
        least_exponent: that of its smallest normal number.
        largest: finite number.
    """

    name: str
    fraction_bits: int
    least_exponent: int
    largest: float

    def spacing(self, values: NDArray[Any]) -> Values:
        """The distance between neighbours at each value."""
        _, exponents = np.frexp(np.abs(values).astype(np.float64))
        return np.asarray(
            np.ldexp(1.0, np.maximum(exponents - 1, self.least_exponent) - self.fraction_bits)
        )

    def holds(self, values: NDArray[Any]) -> bool:
        """Whether the dtype has every one of some finite values."""
        steps = values.astype(np.float64) / self.spacing(values)
        return bool(np.all(steps == np.rint(steps)) and np.all(np.abs(values) <= self.largest))


BF16 = Precision("bfloat16", 7, -126, 3.3895313892515355e38)
FP16 = Precision("float16", 10, -14, 65504.0)
FP32 = Precision("float32", 23, -126, 3.4028234663852886e38)


@dataclass(frozen=True)
class Rounding:
    """What weights were rounded to, as far as it shows in them.

    Attributes:
        precisions: the dtypes that have all of them, the coarsest first: BF16 is often kept as FP16
            or FP32, and some weights are numbers of both.
    """

    precisions: tuple[Precision, ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Rounding":
        """That of some finite values."""
        return cls(tuple(each for each in (BF16, FP16) if each.holds(values)) or (FP32,))

    @property
    def name(self) -> str:
        """The coarsest dtype's."""
        return self.precisions[0].name

    def spacing(self, values: NDArray[Any]) -> Values:
        """The largest distance between neighbours at each value."""
        first, *others = (each.spacing(values) for each in self.precisions)
        for other in others:
            first = np.maximum(first, other)
        return first
