"""The tokens of a shard at which a variant differs most from the reference, as text. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.contract.shards import Window
from orchestrator.contract.tables import WORST_TOKEN_LISTS, WORST_TOKENS

# As many as a line or two of text.
_CONTEXT_TOKENS = 32

_TOP_TOKENS = ("reference_top_token", "top_token")

Decode = Callable[[Sequence[int]], str]


def decoder(tokenizer: Any) -> Decode:
    """A tokenizer of transformers as token ids → the text that they stand for, nothing tidied."""
    return partial(tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def worst_token_lists(
    windows: Sequence[Window], columns: Mapping[str, NDArray[Any]], decode: Decode
) -> pa.ListArray:
    """The `WORST_TOKENS` with the largest KL, a list of records a window, by position.

    Args:
        columns: by field of `TOKEN_FIELDS`, of all tokens, window by window; those of a variant.
        decode: token ids → text, special tokens included; one that stands for none is `<id>`.
    """
    counts = [len(window.target_ids) for window in windows]
    firsts = np.cumsum([0, *counts])
    # Of equal ones the first; what is not a number comes last.
    worst = np.argsort(-columns["kl"], kind="stable")[:WORST_TOKENS]
    lists: list[list[dict[str, Any]]] = [[] for _ in windows]
    for place in sorted(worst.tolist()):
        number = int(np.searchsorted(firsts, place, side="right")) - 1
        window, within = windows[number], place - int(firsts[number])
        position = window.start + 1 + within
        before = window.input_ids[max(0, position - _CONTEXT_TOKENS) : position]
        context = decode(before)
        ids = (window.target_ids[within], *(columns[name][place] for name in _TOP_TOKENS))
        token, reference_top, top = (
            _added(context, decode([*before, int(chosen)])) or f"<{chosen}>" for chosen in ids
        )
        lists[number].append(
            {
                "position": position,
                "context": context,
                "token_text": token,
                "reference_top_token_text": reference_top,
                "top_token_text": top,
            }
        )
    return pa.array(lists, type=WORST_TOKEN_LISTS.type)


def _added(text: str, longer: str) -> str:
    """What a token adds to a text: alone, some tokenizers take its leading space away."""
    if not longer.startswith(text):
        # It ends a character that the one before it began: then it adds the whole of it.
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    return longer[len(text) :]
