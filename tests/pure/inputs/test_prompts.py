"""The prompt suite, and files of prompts."""

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.errors import BadInputError
from orchestrator.inputs.prompts import load_prompts


def test_the_suite_has_twelve_categories_of_eight() -> None:
    suite = load_prompts("suite")
    assert Counter(Counter(p.category for p in suite.prompts).values()) == {8: 12}


def test_its_first_24_prompts_are_two_of_each_category() -> None:
    suite = load_prompts("suite")
    assert set(Counter(p.category for p in suite.prompts[:24]).values()) == {2}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no prompt"),
        ("not json\n", "line 1 is not a JSON object"),
        ('{"id": "a", "category": "c", "text": "t", "answer": "x"}\n', "answer: unknown field"),
        ('{"id": "a", "category": "c"}\n', "text: Field required"),
        ('{"id": "a", "category": "c", "text": ""}\n', "text: String should have"),
        ('{"id": "a", "category": "c", "text": "t"}\n' * 2, "id 'a' is used twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(BadInputError, match=problem):
        load_prompts(str(path))
