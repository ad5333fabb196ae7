"""A variant's tokens → where it differs from the reference: when that is sure, and how early. Pure.

Not all tokens are alike: where the reference hesitates between words, a small change of its logits
moves much probability; where it is sure, it takes a large one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from orchestrator.comparison_schema import Bucket
from orchestrator.figures.estimates import Array
from orchestrator.figures.sample import Sample

_CONFIDENCE_BOUNDS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
# The first bound above 0, and from one to the next.
_FIRST_POSITION, _POSITION_FACTOR = 16, 4


def by_confidence(sample: Sample, effect: float | None = None) -> list[Bucket]:
    """By the reference's top probability; one of 1 is in the last bucket.

    Args:
        effect: the design effect of a same top token that all or none of a bucket have.
    """
    top = sample.tokens.column("reference_top_probability")
    below_the_last = np.nextafter(_CONFIDENCE_BOUNDS[-1], 0)
    values = np.minimum(top, below_the_last)
    return _buckets(sample, values, _CONFIDENCE_BOUNDS, effect)


def by_position(sample: Sample, effect: float | None = None) -> list[Bucket]:
    """By how many tokens are before each in its window: early ones have little context."""
    positions = sample.tokens.positions.astype(np.float64)
    return _buckets(sample, positions, list(_position_bounds(positions.max())), effect)


def _position_bounds(largest: float) -> Iterator[float]:
    yield 0.0
    bound = float(_FIRST_POSITION)
    while bound <= largest:
        yield bound
        bound *= _POSITION_FACTOR
    yield bound


def _buckets(
    sample: Sample, values: Array, bounds: Sequence[float], effect: float | None
) -> list[Bucket]:
    kl, same = sample.tokens.column("kl"), sample.tokens.column("same_top_token")
    found = []
    for lower, upper in pairwise(bounds):
        chosen = (lower <= values) & (values < upper)
        found.append(
            Bucket(
                lower=lower,
                upper=upper,
                share=float(chosen.mean()),
                kl=sample.mean(kl, chosen, least=0.0),
                same_top_token=sample.share(same, chosen, effect),
            )
        )
    return found
