"""Weights of an original and of a suspect → by which way the one becomes the other."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product

import numpy as np

from actors.plain_quantizers import Matrix
from actors.ways_to_quantize import WAYS, Way, kept_as
from orchestrator.contract.requantization import Closeness, Lines, Trial
from orchestrator.contract.variants import READ_AS

# Of those that come closest, so many are tried through other dtypes, too.
_REFINED = 3
# What a model is cast to before it is quantized, or as which it is expanded.
_CASTS = ("float16", "bfloat16")


def untried() -> list[str]:
    """The modules that are not installed here, and whose ways are not tried."""
    needed = {way.needs for way in WAYS.values() if way.needs is not None}
    return sorted(module for module in needed if find_spec(module) is None)


def nearest(lines: Lines, family: str | None = None) -> Closeness | None:
    """The trial that comes closest to the suspect.

    Args:
        family: of the grid that the suspect lies on, where that is known: other ways are tried only
            if none leads there.

    Returns:
        None where no way can be tried.
    """
    screened = [how_close(lines, Trial(way)) for way in _ways(lines, family)]
    best = sorted(screened, key=_distance)[:_REFINED]
    if not best or best[0].squared_error == 0:
        return best[0] if best else None
    refined = [how_close(lines, trial) for one in best for trial in _through(lines, one.trial.way)]
    return min([*best, *refined], key=_distance)


def how_close(lines: Lines, trial: Trial) -> Closeness:
    """How close one trial comes."""
    original = lines.original if trial.before is None else kept_as(lines.original, trial.before)
    made = WAYS[trial.way].of_lines(original, lines.facts)
    if trial.after is not None:
        made = kept_as(made, trial.after)
    made = kept_as(made, READ_AS[lines.dtype])
    errors = (made - lines.suspect).astype(np.float64)
    return Closeness(trial, int((made == lines.suspect).sum()), float((errors * errors).sum()))


def _distance(found: Closeness) -> float:
    # What is not a number is the farthest.
    return found.squared_error if found.squared_error >= 0 else float("inf")


def _ways(lines: Lines, family: str | None) -> Sequence[str]:
    missing = untried()
    fitting = {
        name: way
        for name, way in WAYS.items()
        if way.needs not in missing and _fits(way, lines.original)
    }
    return [name for name, way in fitting.items() if way.family == family] or [*fitting]


def _fits(way: Way, weights: Matrix) -> bool:
    return int(weights.shape[1]) % way.blocks_of == 0


def _through(lines: Lines, way: str) -> Iterator[Trial]:
    """A way through other dtypes, where they change a weight."""
    befores = [None, *(d for d in _CASTS if _changes(lines.original, d))]
    afters = [None, *(dtype for dtype in _CASTS if dtype != READ_AS[lines.dtype])]
    for before, after in product(befores, afters):
        if before is not None or after is not None:
            yield Trial(way, before, after)


def _changes(weights: Matrix, dtype: str) -> bool:
    return not np.array_equal(kept_as(weights, dtype), weights)
