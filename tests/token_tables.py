"""Token tables of made-up windows, in files as a run has them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.contract.tables import TOKEN_FIELDS, WINDOWS_SCHEMA
from orchestrator.figures.sample import Sample, Units
from orchestrator.storage.shard_file import read_batches, shard_content
from orchestrator.storage.tokens import TokenTable

# What a token is unless a test says otherwise.
_DEFAULTS: dict[str, Any] = {
    "token": 1,
    "negative_log_likelihood": 1.0,
    "reference_negative_log_likelihood": 1.0,
    "kl": 0.0,
    "reverse_kl": 0.0,
    "probability_change": 0.0,
    "reference_top_token": 1,
    "reference_top_probability": 0.6,
    "top_token": 1,
    "top_probability": 0.6,
    "same_top_token": True,
}

# By field, a value a token.
Window = dict[str, Sequence[Any]]


def token_table(
    folder: Path,
    windows: Sequence[Window],
    *,
    variant: str = "v",
    first_position: int = 1,
    shard_size: int = 2,
    numbers: Sequence[int] | None = None,
) -> TokenTable:
    """A table of windows whose tokens have the given fields; other fields have a default."""
    numbers = range(len(windows)) if numbers is None else numbers
    shards = []
    for first in range(0, len(windows), shard_size):
        rows = [
            _row(variant, number, first_position, window)
            for number, window in zip(
                numbers[first : first + shard_size],
                windows[first : first + shard_size],
                strict=True,
            )
        ]
        path = folder / f"{variant}-{first}.arrow"
        table = pa.Table.from_pylist(rows, schema=WINDOWS_SCHEMA)
        path.write_bytes(shard_content(table, "f"))
        shards.append(partial(read_batches, path))
    return TokenTable(variant, tuple(shards))


def sample(tokens: TokenTable, stretches: tuple[int, ...] | None = None) -> Sample:
    """Tokens with each window for a unit, unless there are stretches."""
    return Sample(tokens, Units(0.95, stretches, fewest=2))


def _row(variant: str, number: int, first_position: int, window: Window) -> dict[str, Any]:
    count = len(next(iter(window.values())))
    assert window.keys() <= _DEFAULTS.keys() == {field.name for field in TOKEN_FIELDS}
    tokens = [
        {name: _plain(window[name][n]) if name in window else d for name, d in _DEFAULTS.items()}
        for n in range(count)
    ]
    return {
        "variant": variant,
        "window": number,
        "first_position": first_position,
        "scored_tokens": count,
        "negative_log_likelihood": sum(token["negative_log_likelihood"] for token in tokens),
        "logits_from": "head",
        "seconds": 1.0,
        "tokens": tokens,
        "worst_tokens": None,
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
