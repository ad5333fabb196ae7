"""What was measured of each scored token: lists in the shards' files → columns and rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.contract.tables import TOKEN_FIELDS, TOKENS_SCHEMA

# A shard's record batches, by the schema of its file, each time that it is called.
Batches = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a stage of windows, on the disk until they are asked for.

    Attributes:
        variant: whose they are.
        shards: what reads its shards, in the order of the stage's table.
    """

    variant: str
    shards: tuple[Batches, ...]

    def column(self, name: str) -> NDArray[np.float64]:
        """A field of every token, window by window: float64 `[tokens]`, NaN where it is null."""
        parts = [
            _records(batch).field(name).to_numpy(zero_copy_only=False).astype(np.float64)
            for batch in self._batches()
        ]
        return np.concatenate([np.empty(0), *parts])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many tokens each window has; an answer may have none: `[windows]`."""
        return np.concatenate([np.empty(0, np.int64), *map(_counts, self._batches())])

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        """The windows' numbers in the corpus: `[windows]`."""
        parts = [batch["window"].to_numpy().astype(np.int64) for batch in self._batches()]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """How many tokens are before each one in its window: `[tokens]`."""
        return np.concatenate([np.empty(0, np.int64), *map(_positions, self._batches())])

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """A value of every token, summed by window, 0 where it has none: float64 `[windows]`."""
        sums = np.zeros(len(self.counts))
        there = np.flatnonzero(self.counts)
        if len(there):
            firsts = np.cumsum(self.counts) - self.counts
            sums[there] = np.add.reduceat(values, firsts[there])
        return sums

    def rows(self) -> Iterator[pa.Table]:
        """The rows of the table `tokens`, a part at a time."""
        for batch in self._batches():
            records = _records(batch)
            columns = [
                pa.array([self.variant] * len(records), pa.string()),
                pa.array(np.repeat(batch["window"].to_numpy(), _counts(batch)), pa.int32()),
                pa.array(_positions(batch), pa.int32()),
                *(records.field(field.name) for field in TOKEN_FIELDS),
            ]
            yield pa.Table.from_arrays(columns, schema=TOKENS_SCHEMA)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """The shards' record batches, by the schema of their files; one file is open at a time."""
        for batches in self.shards:
            yield from batches()


def _records(batch: pa.RecordBatch) -> pa.StructArray:
    return batch["tokens"].flatten()


def _positions(batch: pa.RecordBatch) -> NDArray[np.int64]:
    counts = _counts(batch)
    ends = np.cumsum(counts)
    within = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    return np.asarray(np.repeat(batch["first_position"].to_numpy(), counts) + within)


def _counts(batch: pa.RecordBatch) -> NDArray[np.int64]:
    lengths = batch["tokens"].value_lengths().to_numpy(zero_copy_only=False)
    return np.asarray(lengths, dtype=np.int64)
