"""Notes: every kind has its words, and is made with all that they name."""

import ast
import string
from typing import get_args

import pytest

from orchestrator.comparison_schema.notes import WORDS, NoteKind, note
from tests.places import REPOSITORY

KINDS = get_args(NoteKind)


def named_in(words: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


def made() -> dict[str, set[str]]:
    """What notes of each kind are made with, read from the code."""
    found = {}
    for path in (REPOSITORY / "orchestrator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "note":
                kind, *variant = node.args
                assert isinstance(kind, ast.Constant)
                names = {str(keyword.arg) for keyword in node.keywords}
                found[str(kind.value)] = names | ({"variant"} if variant else set())
    return found


def test_every_kind_has_words_and_is_made_somewhere() -> None:
    assert set(WORDS) == set(KINDS) == set(made())


@pytest.mark.parametrize("kind", KINDS)
def test_a_note_is_made_with_what_its_words_name(kind: NoteKind) -> None:
    # Of whom it is may go without saying.
    assert named_in(WORDS[kind]) | {"variant"} == made()[kind] | {"variant"}


def test_a_note_says_its_words() -> None:
    found = note("other_windows", "nf4", windows=4, reference_windows=6)
    assert str(found) == (
        "nf4: 4 windows against the reference's 6: perplexities are not compared."
    )
    assert (found.kind, found.variant) == ("other_windows", "nf4")
