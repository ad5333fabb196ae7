"""Runs of numbers that two texts have in common: tokens, or words.

A run is known by a polynomial hash modulo 2⁶⁴, which of a billion pairs of runs takes two for the
same with a chance of 10⁻¹⁰.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_BASE = np.uint64(0x9E3779B97F4A7C15)


def hashes_of(numbers: Numbers, length: int) -> Hashes:
    """The hash of each run of a length, by where it begins: `[numbers - length + 1]`."""
    count = max(0, len(numbers) - length + 1)
    found = np.zeros(count, np.uint64)
    # Small numbers apart from each other, else short runs of them would be alike.
    spread = (numbers.astype(np.uint64) + np.uint64(1)) * _BASE
    spread ^= spread >> np.uint64(29)
    for place in range(length):
        found *= _BASE
        found += spread[place : place + count]
    return found


class Held:
    """Which of some texts are held by others: those of which a run occurs there.

    Args:
        texts: int64 `[numbers]` each.
        length: of a run.
    """

    def __init__(self, texts: Sequence[Numbers], length: int) -> None:
        self._length = length
        hashes = [hashes_of(text, length) for text in texts]
        owners = [np.full(len(found), number) for number, found in enumerate(hashes)]
        joined = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        order = np.argsort(joined, kind="stable")
        self._hashes = joined[order]
        self._owners = np.concatenate(owners)[order] if owners else np.zeros(0, np.int64)
        self._found: set[int] = set()

    def look_in(self, text: Numbers) -> None:
        """Notes which of the texts have a run in this one."""
        wanted = np.unique(hashes_of(text, self._length))
        begins = np.searchsorted(self._hashes, wanted, side="left")
        ends = np.searchsorted(self._hashes, wanted, side="right")
        for begin, end in zip(begins[begins < ends], ends[begins < ends], strict=True):
            self._found.update(map(int, self._owners[begin:end]))

    @property
    def numbers(self) -> list[int]:
        """Those that are held, in order."""
        return sorted(self._found)
