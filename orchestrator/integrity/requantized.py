"""Tensors of a suspect that differ from an original's → the way to quantize that makes them of it.

The arithmetic is the actors'; a part of each tensor is held at a time.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from orchestrator.contract.requantization import Closeness, Facts, Lines, Trial
from orchestrator.inputs.tensor_roles import role_of
from orchestrator.inputs.weight_files import PLAIN_BYTES, StoredTensor
from orchestrator.integrity.files import AuditedFiles
from orchestrator.integrity.outcome import Audit, Requantized
from orchestrator.integrity.sampling import Numbers, Weights, open_weights

# Of a tensor, at once; and of those on which all ways are tried.
_PART_WEIGHTS, _TRIED_WEIGHTS = 2**20, 2**17
# A way that comes no nearer than so, beside the original itself, explains nothing.
_NEARER = 0.9
# Lines of a tile.
_TILE = 128


def requantize(
    suspect: AuditedFiles,
    original: AuditedFiles,
    names: Iterable[str],
    audit: Audit,
    *,
    everything: bool,
    done: Callable[[], None],
) -> list[Requantized]:
    """Quantizes the original's tensors by every way that is known here.

    Args:
        names: of the tensors that differ; those that are no plain matrices of the same shape are
            left out.
        audit: of the suspect: of a tensor on a grid, ways to that grid are tried first.
        everything: whether a tensor is compared as a whole, or a part of it.
        done: called after each of the suspect's tensors, from threads.

    Raises:
        OSError: a file cannot be read.
    """
    differing = set(names)
    originals = {tensor.name: tensor for tensor in original.tensors if tensor.name in differing}
    families = {each.name: each.family for each in audit.tensors}

    def work(tensor: StoredTensor) -> Requantized | None:
        other = originals.get(tensor.name)
        if other is None or not _is_comparable(tensor, other):
            return None
        with open_weights(tensor) as mine, open_weights(other) as theirs:
            pair = _Pair(mine, theirs, Facts.of(_parts(theirs)))
            return _requantized(pair, families.get(tensor.name), everything=everything)

    return [found for found in suspect.each_tensor(work, done) if found is not None]


def untried_modules() -> list[str]:
    """The modules that are not installed, and whose ways to quantize are not tried."""
    from actors.requantization import untried

    return untried()


def _is_comparable(one: StoredTensor, other: StoredTensor) -> bool:
    plain = one.dtype in PLAIN_BYTES and other.dtype in PLAIN_BYTES
    return plain and one.shape == other.shape and len(one.shape) > 1 and one.elements > 0


def _parts(weights: Weights) -> Iterator[Numbers]:
    """All of a tensor in the order of the file, some weights at a time."""
    count = weights.rows * weights.columns
    for first in range(0, count, _PART_WEIGHTS):
        yield weights.read(first, min(_PART_WEIGHTS, count - first))


@dataclass(frozen=True)
class _Pair:
    """A tensor in two models."""

    suspect: Weights
    original: Weights
    facts: Facts

    def parts(self, weights: int, *, turned: bool) -> Iterator[Lines]:
        """All of it, at least a tile of lines and about so many weights at a time.

        Args:
            turned: whether lines are columns.
        """
        height, columns = self.suspect.height, self.suspect.columns
        lines, length = (columns, height) if turned else (height, columns)
        most = max(_TILE, weights // length // _TILE * _TILE)
        for matrix in range(0, self.suspect.rows, height):
            for first in range(0, lines, most):
                count = min(most, lines - first)
                read = _read_columns if turned else _read_rows
                yield Lines(
                    original=read(self.original, matrix, first, count),
                    suspect=read(self.suspect, matrix, first, count),
                    dtype=self.suspect.tensor.dtype,
                    facts=self.facts,
                )


def _read_rows(weights: Weights, matrix: int, first: int, count: int) -> Numbers:
    columns = weights.columns
    return weights.read((matrix + first) * columns, count * columns).reshape(count, columns)


def _read_columns(weights: Weights, matrix: int, first: int, count: int) -> Numbers:
    rows = range(matrix, matrix + weights.height)
    lines = [weights.read(row * weights.columns + first, count) for row in rows]
    return np.ascontiguousarray(np.stack(lines).T)


def _requantized(pair: _Pair, family: str | None, *, everything: bool) -> Requantized | None:
    """What is said of a tensor; None where weights are no numbers, or no way can be tried."""
    # Imported here: it takes torch, and what else quantizes.
    from actors.requantization import how_close, nearest

    best: tuple[float, Trial, bool] | None = None
    for turned in (False, True) if role_of(pair.suspect.tensor) == "linear" else (False,):
        lines = next(pair.parts(_TRIED_WEIGHTS, turned=turned))
        found = nearest(lines, family)
        if found is None or not math.isfinite(found.squared_error):
            continue
        distance = found.squared_error / lines.suspect.size
        if best is None or distance < best[0]:
            best = distance, found.trial, turned
        if distance == 0:
            break
    if best is None:
        return None
    _, trial, turned = best
    sums = _Sums()
    for lines in pair.parts(_PART_WEIGHTS, turned=turned):
        sums.add(lines, how_close(lines, trial))
        if not everything:
            break
    return sums.said_of(pair.suspect.tensor.name, trial)


class _Sums:
    """Sums over parts of a tensor."""

    def __init__(self) -> None:
        self._weights = self._changed = self._equal = 0
        self._squared_error = self._squared_change = self._squares = 0.0

    def add(self, lines: Lines, found: Closeness) -> None:
        """Adds a part, and how close a trial comes to it."""
        original = lines.original.astype(np.float64)
        change = lines.suspect - original
        self._weights += change.size
        self._changed += int(np.count_nonzero(change))
        self._equal += found.equal
        self._squared_error += found.squared_error
        self._squared_change += float((change * change).sum())
        self._squares += float((original * original).sum())

    def said_of(self, name: str, trial: Trial) -> Requantized | None:
        """What is said of the tensor; None where it cannot be."""
        if not self._squares or not math.isfinite(self._squared_error + self._squared_change):
            return None
        error, change = (
            math.sqrt(squared / self._squares)
            for squared in (self._squared_error, self._squared_change)
        )
        # Where nothing differs, each way that changes nothing would explain it.
        near = self._changed > 0 and error <= _NEARER * change
        return Requantized(
            name=name,
            way=trial.way if near else None,
            cast_before=trial.before if near else None,
            cast_after=trial.after if near else None,
            weights=self._weights,
            changed_weights=self._changed,
            equal_weights=self._equal if near else 0,
            relative_error=error if near else None,
            relative_change=change,
        )
