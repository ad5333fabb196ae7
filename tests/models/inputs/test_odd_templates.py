"""Chat templates that loop, allocate or recurse: one line, and the command lives."""

from pathlib import Path

import pytest

from orchestrator.errors import BadInputError
from orchestrator.inputs import tokenizer
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.tokenizer import ModelTokenizer
from tests.tiny_models import make_tiny_model

LOOP = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}"
)
SAYS = "{{ messages[0].content }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def with_template(folder: Path, template: str) -> ModelTokenizer:
    (folder / "chat_template.jinja").write_text(template)
    return ModelTokenizer(resolve_model(str(folder), None))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LOOP, "no end after"),
        ("{{ 'a' * 10**11 }}" + SAYS, "memory"),
        ("{% set x = ['a' * 10**8] %}{{ x * 10**9 }}", "memory"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}" + SAYS, "too deep"),
        ("{{ 'a' * 10**8 }}" + SAYS, "it writes without end"),
        ("{{ raise_exception('no system\x1b[2J\\nrole') }}", "no system"),
        ("{{ ().__class__.__base__.__subclasses__() }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "cannot write a prompt"),
        ("{{ 1 // 0 }}", "zero"),
        ("{" * 10_000, "cannot write a prompt"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "cannot write a prompt"),
    ],
)
def test_a_template_that_misbehaves_is_refused_in_a_line(
    template: str, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "_TEMPLATE_SECONDS", 8.0)
    with pytest.raises(BadInputError, match="chat template") as caught:
        with_template(folder, template).encode_prompt("Say it")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    # The next one is written.
    ids = with_template(folder, f"<s>{SAYS}").encode_prompt("Say it")
    assert ids


def test_a_template_gets_the_special_tokens_and_the_time(folder: Path) -> None:
    written = with_template(folder, "{{ bos_token }}{{ strftime_now('%Y') }}" + SAYS)
    assert written._render("Say it", tokenizer._DATE) == "<s>2025Say it"
    written.encode_prompt("Say it")
    assert written.wrote_a_date
