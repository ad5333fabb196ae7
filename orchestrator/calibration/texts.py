"""Texts → which are the same, which nearly so, and in which languages they are."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import numpy as np

from orchestrator.calibration.runs import Held, Numbers

_WORD = re.compile(r"\w+")
# Of a row: enough to tell a language, and to tell two rows apart.
_LANGUAGE_CHARACTERS, _SHINGLE_CHARACTERS = 1000, 20_000
_SHINGLE_WORDS = 5
_ALIKE = 0.8
_HASHES = 64
# Of a prompt; shorter ones are held where all their words are, if they have a few.
_PROMPT_WORDS, _LEAST_PROMPT_WORDS = 13, 4


class Sample:
    """At most so many of some rows, each as likely as any other; the same of the same rows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._random = random.Random(0)
        self._seen = 0
        self.rows: list[str] = []

    def add(self, text: str) -> None:
        """Adds a row, which may take another's place."""
        self._seen += 1
        if len(self.rows) < self._most:
            self.rows.append(text)
        elif (place := self._random.randrange(self._seen)) < self._most:
            self.rows[place] = text


class Duplicates:
    """How many rows are the same as an earlier one, but for case and white space."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.count = 0

    def add(self, text: str) -> None:
        """Adds a row."""
        digest = hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=8).digest()
        self.count += digest in self._seen
        self._seen.add(digest)


def near_duplicates(rows: Sequence[str]) -> int | None:
    """How many rows have most of their runs of words in common with an earlier one (MinHash, Broder
    1997); None where the library that tells is not installed.
    """
    if find_spec("datasketch") is None:
        return None
    # Imported here: it is an extra.
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=_ALIKE, num_perm=_HASHES)
    signatures: dict[int, MinHash] = {}
    found = 0
    for number, row in enumerate(rows):
        words = words_of(row[:_SHINGLE_CHARACTERS])
        runs = range(max(1, len(words) - _SHINGLE_WORDS + 1))
        shingles = {" ".join(words[n : n + _SHINGLE_WORDS]) for n in runs}
        signature = MinHash(num_perm=_HASHES, seed=1)
        signature.update_batch([shingle.encode() for shingle in shingles])
        near = index.query(signature)
        if any(signature.jaccard(signatures[other]) >= _ALIKE for other in near):
            found += 1
        else:
            index.insert(number, signature)
            signatures[number] = signature
    return found


def languages_of(rows: Iterable[str]) -> dict[str, float] | None:
    """The share of rows in each language, the most frequent first; None without the library."""
    if find_spec("py3langid") is None:
        return None
    # Imported here: it is an extra.
    import py3langid

    counts = Counter(py3langid.classify(row[:_LANGUAGE_CHARACTERS])[0] for row in rows)
    total = max(1, counts.total())
    return {str(language): count / total for language, count in counts.most_common()}


def words_of(text: str) -> list[str]:
    """The words of a text, whatever stands between them."""
    return _WORD.findall(text.casefold())


class HeldPrompts:
    """Which of some prompts are held by other texts, by runs of their words.

    Args:
        prompts: texts.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._numbers: dict[str, int] = {}
        by_length: dict[int, dict[int, Numbers]] = {}
        for number, prompt in enumerate(prompts):
            words = words_of(prompt)
            length = min(_PROMPT_WORDS, len(words))
            if length >= _LEAST_PROMPT_WORDS:
                by_length.setdefault(length, {})[number] = self._as_numbers(words, known=False)
        # The prompts of a length, and which of them are held.
        self._held = [
            (list(texts), Held(list(texts.values()), length)) for length, texts in by_length.items()
        ]

    def look_in(self, text: str) -> None:
        """Notes which prompts a text holds."""
        words = self._as_numbers(words_of(text), known=True)
        for _, held in self._held:
            held.look_in(words)

    @property
    def numbers(self) -> list[int]:
        """The prompts that are held, by number."""
        return sorted(owners[place] for owners, held in self._held for place in held.numbers)

    def _as_numbers(self, words: Sequence[str], *, known: bool) -> Numbers:
        """Words by number; one that no prompt has is 0."""
        if not known:
            for word in words:
                self._numbers.setdefault(word, len(self._numbers) + 1)
        return np.array([self._numbers.get(word, 0) for word in words], np.int64)
