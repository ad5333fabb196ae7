"""What somebody who mistyped a word most likely meant."""

import difflib
from collections.abc import Iterable

# Of a difference that is a slip and no other word.
_ALIKE = 0.65


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question behind a message: the known word that is most like it, whatever their case.

    Empty where none is.
    """
    by_case = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_case, n=1, cutoff=_ALIKE)
    return f"; did you mean '{by_case[found[0]]}'?" if found else ""
