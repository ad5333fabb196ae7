"""Answers that are broken whatever they were asked: empty, in a loop, or no whole characters. Pure.

None of it is a judgement of the content; a model that does this to a prompt is of no use for it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

DegenerateKind = Literal["empty", "loop", "broken_text"]

# The same tokens so often in a row, and so many tokens of it, that no list or table is meant.
_COPIES = 4
_LOOP_TOKENS = 20
# The longest stretch that is looked for, in tokens: a sentence or two.
_LONGEST_STRETCH = 32

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def degenerate_kind(token_ids: Sequence[int], text: str) -> DegenerateKind | None:
    """How an answer is broken; None where it is not.

    Args:
        token_ids: what was generated.
        text: the same without special tokens.
    """
    if not text.strip():
        return "empty"
    if _loops(token_ids):
        return "loop"
    # What no character can be made of; at the end it is one that the limit cut in two.
    return "broken_text" if _REPLACEMENT in text else None


def _loops(token_ids: Sequence[int]) -> bool:
    """Whether a stretch of tokens comes `_COPIES` times in a row or more, anywhere."""
    ids = np.asarray(token_ids, dtype=np.int64)
    for period in range(1, min(_LONGEST_STRETCH, len(ids) // _COPIES) + 1):
        # So many matches in a row with what is a period before make a loop of that many tokens.
        needed = max(_COPIES * period, _LOOP_TOKENS) - period
        if _longest_run(ids[period:] == ids[:-period]) >= needed:
            return True
    return False


def _longest_run(matches: np.ndarray) -> int:
    """The most matches in a row."""
    misses = np.flatnonzero(~matches)
    edges = np.concatenate([[-1], misses, [len(matches)]])
    return int(np.diff(edges).max()) - 1
