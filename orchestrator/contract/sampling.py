"""Which windows of a text are taken, and which of them make one unit of uncertainty. Pure."""

from bisect import bisect_left
from collections.abc import Sequence

# Real text forgets what it was about after 10,000 to 16,000 tokens, about as long as an article:
# neighbouring windows tell the same story, parts of this length do not (docs/statistics.md).
_STRETCH_TOKENS = 16_384
_FEWEST_STRETCHES, _MOST_STRETCHES = 3, 12
# Of every interval.
CONFIDENCE = 0.95
# So many windows are looked at, then twice as many, then all, until they decide.
_LOOKS = (8, 16, 32, 64)
# Of every interval then: five looks at 99% err together in at most 5% (Bonferroni).
UNTIL_DECIDED_CONFIDENCE = 0.99


def spread(n: int, count: int) -> tuple[int, ...]:
    """Places spread evenly over n: i·n//count, each once, in order.

    Args:
        count: at most n.
    """
    return tuple(place * n // count for place in range(count))


def looks_at(n: int) -> tuple[tuple[int, ...], ...]:
    """The places that each look at n windows adds: 8, 16, 32 and 64 of them, then all.

    Each look is spread, and holds the earlier ones: i·n//8 is 2i·n//16.
    """
    found: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for count in (*(few for few in _LOOKS if few < n), n):
        added = tuple(place for place in spread(n, count) if place not in seen)
        seen.update(added)
        found.append(added)
    return tuple(found)


def stretches_of(
    numbers: Sequence[int], tokens: Sequence[int], documents: Sequence[int] = ()
) -> tuple[int, ...]:
    """Cuts windows into stretches: contiguous parts of the text that are nearly independent.

    There is one for each 16,384 tokens between the first and the last window, both included, but
    at least 3 and at most 12, and never more than windows. A stretch splits no document, unless
    there are fewer than three.

    Args:
        numbers: of the windows that are measured, in order.
        tokens: that the model reads, of each window of the text, measured or not.
        documents: the numbers of the windows that begin a document; none where windows go on from
            one document to the next.

    Returns:
        The number of the first window of each stretch.
    """
    n = len(numbers)
    if not n:
        return ()
    span = sum(tokens[numbers[0] : numbers[-1] + 1])
    count = min(n, max(_FEWEST_STRETCHES, min(_MOST_STRETCHES, span // _STRETCH_TOKENS)))
    begins = sorted({bisect_left(numbers, first) for first in (*documents, numbers[0])} - {n})
    places: Sequence[int] = spread(n, count)
    if len(begins) >= _FEWEST_STRETCHES:
        places = _nearest(begins, spread(n, min(count, len(begins))))
    return tuple(numbers[place] for place in places)


def _nearest(begins: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Of some places those nearest to the wanted ones, each once, in order.

    Args:
        begins, wanted: ascending from 0; not more wanted than there are.
    """
    found = [0]
    for number, place in enumerate(wanted[1:], 1):
        left = len(wanted) - 1 - number
        allowed = begins[begins.index(found[-1]) + 1 : len(begins) - left]
        found.append(min(allowed, key=lambda begin: abs(begin - place)))
    return found
