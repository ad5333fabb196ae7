"""Token ids → windows, a function a protocol. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.contract.shards import Window

# Where a window begins and ends in the ids, and the tokens that it scores.
_Span = tuple[int, int, int, int]


class Windows(Sequence[Window]):
    """Windows of a text, each cut when it is asked for.

    Args:
        ids: of the text, int32 `[tokens]`.
        spans: int64 `[windows, 4]`: the first token that the model sees and the one behind the
            last, and the same of those that are scored.
        first: what stands for the first token of each window, if not that itself.
    """

    def __init__(self, ids: ArrayLike, spans: ArrayLike, first: int | None = None) -> None:
        self._ids = np.asarray(ids, dtype=np.int32)
        self._spans = np.asarray(spans, dtype=np.int64).reshape(-1, 4)
        self._first = first

    @classmethod
    def joined(cls, parts: Iterable["Windows"]) -> "Windows":
        """The windows of texts, one text after another, none with a first token of its own."""
        ids, spans, tokens = [np.empty(0, np.int32)], [np.empty((0, 4), np.int64)], 0
        for part in parts:
            ids.append(part._ids)
            spans.append(part._spans + tokens)
            tokens += len(part._ids)
        return cls(np.concatenate(ids), np.concatenate(spans))

    @property
    def lengths(self) -> list[int]:
        """How many tokens the model sees of each."""
        return [int(length) for length in self._spans[:, 1] - self._spans[:, 0]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Windows) and list(self) == list(other)

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, place: int) -> Window: ...

    @overload
    def __getitem__(self, place: slice) -> "Windows": ...

    def __getitem__(self, place: int | slice) -> "Window | Windows":
        if isinstance(place, slice):
            return Windows(self._ids, self._spans[place], self._first)
        begin, end, scored, last = self._spans[place].tolist()
        inputs = self._ids[begin:end].tolist()
        if self._first is not None:
            inputs[0] = self._first
        return Window(
            input_ids=tuple(inputs),
            target_ids=tuple(self._ids[scored:last].tolist()),
            start=scored - 1 - begin,
        )


def concat_windows(ids: ArrayLike, length: int) -> Windows:
    """Disjoint windows; every position but a window's first is scored; the tail is kept."""
    n = np.size(ids)
    spans = ((begin, min(begin + length, n)) for begin in range(0, n, length))
    return Windows(ids, [(begin, end, begin + 1, end) for begin, end in spans if end - begin >= 2])


def strided_windows(ids: ArrayLike, length: int, stride: int) -> Windows:
    """Overlapping windows, each scoring only what no earlier one has scored.

    Source: the sliding-window evaluation of the transformers perplexity guide.
    """

    def spans(n: int) -> Iterator[_Span]:
        previous_end = 1
        for begin in range(0, n, stride):
            end = min(begin + length, n)
            if end > previous_end:
                yield begin, end, max(begin + 1, previous_end), end
            previous_end = end
            if end == n:
                return

    return Windows(ids, list(spans(np.size(ids))))


def llamacpp_windows(ids: ArrayLike, length: int, bos: int | None) -> Windows:
    """Disjoint windows whose second half is scored; the tail is dropped.

    Source: llama.cpp's `perplexity` tool, which scores logits `length // 2` to `length - 2`.

    Args:
        bos: replaces each window's first token, where the tokenizer adds one.
    """
    begins = range(0, np.size(ids) - length + 1, length)
    spans = [(begin, begin + length, begin + length // 2 + 1, begin + length) for begin in begins]
    return Windows(ids, spans, bos)


def rolling_windows(ids: ArrayLike, length: int, prefix: int) -> Windows:
    """Scores every token of a document once, with one token of context or more.

    The first window stands behind the prefix, each later one behind the token before it; the last
    one is filled up with earlier context. Source: lm-evaluation-harness,
    `get_rolling_token_windows` with `context_len=1`.
    """
    n = np.size(ids)
    # The prefix is the first token: a token is one place behind its own in the document.
    pairs = ((begin, min(begin + length, n)) for begin in range(0, n, length))
    spans = [(max(0, end - length), end, begin + 1, end + 1) for begin, end in pairs]
    return Windows(np.concatenate([[prefix], np.asarray(ids, dtype=np.int32)]), spans)
