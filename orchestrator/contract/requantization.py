"""What passes between whoever holds a model against its original and what quantizes that again."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Weights of a block whose largest magnitudes double quantization keeps in 8 bits.
NESTED_BLOCK = 64


@dataclass(frozen=True)
class Facts:
    """What quantizing some lines must know of their whole tensor.

    Attributes:
        largest: magnitude of a weight.
        mean_largest: of the largest magnitudes of its blocks of `NESTED_BLOCK`, as they lie in the
            file.
    """

    largest: float
    mean_largest: float

    @classmethod
    def of(cls, parts: Iterable[NDArray[np.float32]]) -> "Facts":
        """Those of a tensor, some of its weights at a time, in the order of the file."""
        largest, total, blocks = 0.0, 0.0, 0
        for part in parts:
            magnitudes = np.abs(part).reshape(-1)
            largest = max(largest, float(magnitudes.max()))
            whole = magnitudes[: len(magnitudes) // NESTED_BLOCK * NESTED_BLOCK]
            whole = whole.reshape(-1, NESTED_BLOCK)
            total += float(whole.max(1).sum(dtype=np.float64))
            blocks += len(whole)
        return cls(largest, total / blocks if blocks else 0.0)


@dataclass(frozen=True)
class Lines:
    """The same lines of a tensor in two models, float32 `[lines, weights of a line]`.

    Attributes:
        suspect: those that may be the original's, quantized.
        dtype: the suspect's, as its file calls it.
        facts: of the original's tensor.
    """

    original: NDArray[np.float32]
    suspect: NDArray[np.float32]
    dtype: str
    facts: Facts


@dataclass(frozen=True)
class Trial:
    """A way to make one of the other.

    Attributes:
        way: its name.
        before, after: dtypes that the weights are rounded to before they are quantized and after
            they are expanded, beside their own.
    """

    way: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Closeness:
    """How close a trial comes to the suspect's lines.

    Attributes:
        equal: how many weights are the same.
        squared_error: the sum over all weights.
    """

    trial: Trial
    equal: int
    squared_error: float
