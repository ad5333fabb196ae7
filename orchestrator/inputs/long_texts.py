"""A long text → its token ids, as one call gives them but in bounded memory: a part at a time.

A call takes about 150 times its text. Parts overlap, and where one ends and the next goes on both
must have the same tokens at the same places; else larger parts are taken, at last the whole text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# In characters. A part and the next one have the sixteenth of it in common.
_PART = 2**17
_MARGIN = 1 / 32


@dataclass(frozen=True)
class Encoded:
    """A text in tokens, none of them special.

    Attributes:
        ids: int32 `[tokens]`.
        begins, ends: int64 `[tokens]`: each token's place, in characters.
    """

    ids: NDArray[np.int32]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def between(self, begin: int, end: int) -> "Encoded":
        """The tokens that begin in a stretch of the text."""
        there = (self.begins >= begin) & (self.begins < end)
        return Encoded(self.ids[there], self.begins[there], self.ends[there])

    def equals(self, other: "Encoded") -> bool:
        """Whether both have the same tokens at the same places, and some."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return bool(len(self.ids)) and all(np.array_equal(one, two) for one, two in pairs)


Encode = Callable[[str], Encoded]


def ids_of(text: str, encode: Encode, part: int = _PART) -> NDArray[np.int32]:
    """The token ids of a text, without special ones: int32 `[tokens]`.

    Args:
        part: so many characters are encoded by themselves at first, 64 or more.
    """
    while len(text) > part:
        ids = _joined(text, encode, part)
        if ids is not None:
            return ids
        part *= 4
    return encode(text).ids


def _joined(text: str, encode: Encode, part: int) -> NDArray[np.int32] | None:
    """The ids, part by part; None where two parts differ where they meet."""
    margin = int(part * _MARGIN)
    found: list[NDArray[np.int32]] = []
    last: Encoded | None = None
    for begin, here in _parts(text, encode, part, margin):
        if np.any(np.diff(here.begins) < 0):
            return None
        if last is not None:
            # Away from where a part is cut, which changes the tokens there.
            stretch = (begin - margin // 2, begin + margin // 2)
            if not last.between(*stretch).equals(here.between(*stretch)):
                return None
            found.append(last.between(begin - part, begin).ids)
        last = here
    if last is not None:
        found.append(last.between(begin, len(text) + 1).ids)
    return np.concatenate(found)


def _parts(text: str, encode: Encode, part: int, margin: int) -> Iterator[tuple[int, Encoded]]:
    """Where each part begins, with the tokens of it and of a margin on both sides."""
    for begin in range(0, len(text), part):
        first = max(0, begin - margin)
        made = encode(text[first : begin + part + margin])
        yield begin, Encoded(made.ids, made.begins + first, made.ends + first)
