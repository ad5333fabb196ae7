"""A calibration set and what a model is evaluated with → what is to be said of the set."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.calibration.rows import Row
from orchestrator.calibration.runs import Held, Numbers
from orchestrator.calibration.texts import (
    Duplicates,
    HeldPrompts,
    Sample,
    languages_of,
    near_duplicates,
)
from orchestrator.inputs.tokenizer import ModelTokenizer

# Tokens of a run that a window and a row have in common.
RUN_TOKENS = 32
# Rows with less are short.
_SHORT_TOKENS = 32
# Rows that are looked at for languages and near duplicates, and of the evaluation for languages.
_SAMPLED_ROWS, _SAMPLED_EVALUATION_ROWS = 5000, 1000
# Characters that are encoded at once.
_BATCH_CHARACTERS = 2**20
# A row of fewer says little of its language.
_LEAST_CHARACTERS = 40
# Of the set, for a language to be in it.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Evaluation:
    """What a model is evaluated with.

    Attributes:
        rows: its texts.
        windows: int64 `[tokens]` each: the tokens that each one scores.
        prompts: texts by their ids.
        vocabulary: how many tokens the model has.
    """

    rows: Sequence[str]
    windows: Sequence[Numbers]
    prompts: dict[str, str]
    vocabulary: int


@dataclass
class Measured:
    """What a set is like; see `orchestrator.calibration.outcome.CalibrationSet`.

    Attributes:
        lengths: tokens of each row.
        counts: int64 `[vocabulary]`, how often each token occurs.
    """

    lengths: list[int] = field(default_factory=list)
    categories: Counter[str] = field(default_factory=Counter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    duplicates: int = 0
    sampled: list[str] = field(default_factory=list)
    windows_held: list[int] = field(default_factory=list)
    prompts_held: list[str] = field(default_factory=list)


def measure(rows: Iterable[Row], tokenizer: ModelTokenizer, evaluation: Evaluation) -> Measured:
    """Reads a set once, some rows at a time."""
    windows = Held(evaluation.windows, RUN_TOKENS)
    prompts = HeldPrompts(list(evaluation.prompts.values()))
    sample, duplicates = Sample(_SAMPLED_ROWS), Duplicates()
    found = Measured(counts=np.zeros(evaluation.vocabulary, np.int64))
    for batch in _batches(rows):
        encoded = tokenizer.encode_each([row.text for row in batch])
        together = np.concatenate(encoded)
        # A tokenizer may have tokens that the model has no embedding of.
        known = together[together < evaluation.vocabulary]
        found.counts += np.bincount(known, minlength=evaluation.vocabulary)
        for row, ids in zip(batch, encoded, strict=True):
            found.lengths.append(len(ids))
            if row.category is not None:
                found.categories[row.category] += 1
            windows.look_in(ids)
            prompts.look_in(row.text)
            sample.add(row.text)
            duplicates.add(row.text)
    found.duplicates, found.sampled = duplicates.count, sample.rows
    found.windows_held = windows.numbers
    names = list(evaluation.prompts)
    found.prompts_held = [names[number] for number in prompts.numbers]
    return found


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def evaluation_counts(evaluation: Evaluation) -> NDArray[np.int64]:
    """How often each token occurs in what is evaluated: int64 `[vocabulary]`."""
    together = np.concatenate([np.zeros(0, np.int64), *evaluation.windows])
    return np.bincount(together, minlength=evaluation.vocabulary)


def divergence_bits(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Jensen and Shannon's divergence of two frequencies, in bits: 0 to 1 (Lin, 1991)."""
    p, q = (counts / max(1, counts.sum()) for counts in (one, other))
    middle = (p + q) / 2
    return float(sum(_relative(part, middle) for part in (p, q)) / 2)


def _relative(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def languages(found: Measured, evaluation: Evaluation) -> tuple[dict[str, float] | None, float]:
    """The languages of a set, and the share of the evaluation's rows in others."""
    of_set = languages_of(row for row in found.sampled if len(row) >= _LEAST_CHARACTERS)
    rows = [row for row in evaluation.rows if len(row) >= _LEAST_CHARACTERS]
    step = max(1, len(rows) // _SAMPLED_EVALUATION_ROWS)
    of_evaluation = languages_of(rows[::step])
    if of_set is None or of_evaluation is None:
        return None, 0.0
    missing = (
        share
        for language, share in of_evaluation.items()
        if of_set.get(language, 0.0) < _LEAST_SHARE
    )
    return of_set, sum(missing)


def near_duplicates_share(found: Measured) -> float | None:
    """Of the rows looked at, those that are nearly the same as an earlier one."""
    near = near_duplicates(found.sampled)
    return None if near is None else near / max(1, len(found.sampled))


def short_rows(found: Measured) -> int:
    """How many rows have hardly any tokens."""
    return sum(length < _SHORT_TOKENS for length in found.lengths)
