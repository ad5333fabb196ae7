"""A variant's tokens → where it differs from the reference: when that is sure, and how early. Pure.

Not all tokens are alike: where the reference hesitates between words, a small change of its logits
moves much probability; where it is sure, it takes a large one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from orchestrator.comparison_schema import Bucket
from orchestrator.figures.estimates import Array
from orchestrator.figures.measures import mean_of_tokens
from orchestrator.storage.tokens import TokenTable

_CONFIDENCE_BOUNDS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
# The first bound above 0, and from one to the next.
_FIRST_POSITION, _POSITION_FACTOR = 16, 4


def by_confidence(tokens: TokenTable) -> list[Bucket]:
    """By the reference's top probability; one of 1 is in the last bucket."""
    top = tokens.column("reference_top_probability")
    below_the_last = np.nextafter(_CONFIDENCE_BOUNDS[-1], 0)
    return _buckets(tokens, np.minimum(top, below_the_last), _CONFIDENCE_BOUNDS)


def by_position(tokens: TokenTable) -> list[Bucket]:
    """By how many tokens are before each in its window: early ones have little context."""
    positions = tokens.positions.astype(np.float64)
    return _buckets(tokens, positions, list(_position_bounds(positions.max())))


def _position_bounds(largest: float) -> Iterator[float]:
    yield 0.0
    bound = float(_FIRST_POSITION)
    while bound <= largest:
        yield bound
        bound *= _POSITION_FACTOR
    yield bound


def _buckets(tokens: TokenTable, values: Array, bounds: Sequence[float]) -> list[Bucket]:
    kl, same = tokens.column("kl"), tokens.column("same_top_token")
    found = []
    for lower, upper in pairwise(bounds):
        chosen = (lower <= values) & (values < upper)
        found.append(
            Bucket(
                lower=lower,
                upper=upper,
                share=float(chosen.mean()),
                kl=mean_of_tokens(tokens, kl, chosen),
                same_top_token=mean_of_tokens(tokens, same, chosen),
            )
        )
    return found
