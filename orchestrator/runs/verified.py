"""Shards that are computed twice: which ones, and how far apart the two are. Pure."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.storage.tokens import TokenTable


@dataclass(frozen=True)
class Difference:
    """How far what was measured the second time is from the first, in nats.

    Attributes:
        tokens: that are scored.
        likelihood: the largest of a token's, and of the mean of a window's; infinite where the two
            are not of the same tokens, or one alone is a number.
        kl: the largest of a token's likewise; None where nothing is held against a reference.
    """

    record: ShardRecord
    tokens: int
    likelihood: float
    kl: float | None

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.likelihood, self.kl or 0.0)


def sample_of(records: Sequence[ShardRecord], count: int, seed: int) -> list[ShardRecord]:
    """Shards of windows and answers to compute again, by variants in turn.

    Args:
        records: of finished shards.
        count: how many; fewer where there are no more.

    Returns:
        In the order of the records; the same for the same seed.
    """
    draw = random.Random(seed)
    by_variant: dict[str, list[ShardRecord]] = defaultdict(list)
    for record in records:
        if record.stage in STAGES and STAGES[record.stage].is_compared:
            by_variant[record.variant].append(record)
    turns = [
        (turn, place, record.name)
        for place, shards in enumerate(by_variant.values())
        for turn, record in enumerate(draw.sample(shards, len(shards)))
    ]
    chosen = {name for _, _, name in sorted(turns)[:count]}
    return [record for record in records if record.name in chosen]


def difference_of(record: ShardRecord, first: pa.Table, again: pa.Table) -> Difference:
    """How far two tables of a shard are apart.

    Args:
        first, again: by the schema of the shard's stage, less `variant` or not.
    """
    one, other = (TokenTable(record.variant, (table.to_batches,)) for table in (first, again))
    tokens = len(one.positions)
    columns = ("window", "first_position", "scored_tokens")
    same = all(first[name].equals(again[name]) for name in columns)
    if not same or not np.array_equal(one.column("token"), other.column("token")):
        return Difference(record, tokens, math.inf, None)
    means = [_means(table) for table in (first, again)]
    kls = [table.column("kl") for table in (one, other)]
    has_reference = not all(np.isnan(column).all() for column in kls)
    likelihoods = [table.column("negative_log_likelihood") for table in (one, other)]
    return Difference(
        record,
        tokens,
        likelihood=max(_largest(*likelihoods), _largest(*means)),
        kl=_largest(*kls) if has_reference else None,
    )


def _means(table: pa.Table) -> NDArray[np.float64]:
    """The windows' likelihoods by token, of which perplexities are made: `[windows]`."""
    sums = table["negative_log_likelihood"].to_numpy()
    return np.asarray(sums / np.maximum(table["scored_tokens"].to_numpy(), 1))


def _largest(first: NDArray[np.float64], again: NDArray[np.float64]) -> float:
    """The largest difference; of what is equal, or twice no number, there is none."""
    same = (first == again) | (np.isnan(first) & np.isnan(again))
    apart = np.abs(first[~same] - again[~same])
    return float(np.nan_to_num(apart, nan=math.inf, posinf=math.inf).max(initial=0.0))
