"""What was measured of each scored token: lists in the shards' files → columns and rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.contract.tables import TOKEN_FIELDS, TOKENS_SCHEMA
from orchestrator.statistics import Array


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a variant's finished windows, on the disk until they are asked for.

    Attributes:
        windows: `window`, `first_position` and `tokens` by the schema of the shards' files, mapped
            from them: a row a window, in the order of the table `windows`.
    """

    variant: str
    windows: pa.Table

    def column(self, name: str) -> Array:
        """A field of every token, window by window: float64 `[tokens]`, NaN where it is null."""
        parts = [
            _records(batch).field(name).to_numpy(zero_copy_only=False)
            for batch in self.windows.to_batches()
        ]
        return np.concatenate([np.empty(0), *(part.astype(np.float64) for part in parts)])

    def sums(self, values: Array) -> Array:
        """A value of every token, summed by window: float64 `[windows]`."""
        counts = self.counts
        return np.add.reduceat(values, np.cumsum(counts) - counts) if len(counts) else np.empty(0)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many tokens each window has, at least one."""
        lengths = self.windows["tokens"].combine_chunks().value_lengths()
        return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)

    def rows(self) -> Iterator[pa.Table]:
        """The rows of the table `tokens`, a part at a time."""
        for batch in filter(len, self.windows.to_batches()):
            counts = batch["tokens"].value_lengths().to_numpy(zero_copy_only=False)
            ends = np.cumsum(counts)
            within = np.arange(ends[-1], dtype=np.int32) - np.repeat(ends - counts, counts)
            first = np.repeat(batch["first_position"].to_numpy(), counts)
            records = _records(batch)
            columns = [
                pa.array([self.variant] * len(records), pa.string()),
                pa.array(np.repeat(batch["window"].to_numpy(), counts), pa.int32()),
                pa.array(first + within, pa.int32()),
                *(records.field(field.name) for field in TOKEN_FIELDS),
            ]
            yield pa.Table.from_arrays(columns, schema=TOKENS_SCHEMA)


def _records(batch: pa.RecordBatch) -> pa.StructArray:
    return batch["tokens"].flatten()
