"""The prompt suite: package data or a user's file, validated on load."""

import hashlib
import json
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import BadInputError
from orchestrator.json_files import parse_json
from orchestrator.suggestions import did_you_mean
from orchestrator.text_files import PROMPTS_BYTES, read_text


class PromptText(BaseModel):
    """A prompt as it is written in a file, one JSON object a line."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_min_length=1)

    id: str = Field(description="unique in the file")
    category: str
    text: str


class PromptSuite(BaseModel):
    """Prompts in file order, and the hash that identifies them."""

    model_config = ConfigDict(frozen=True)

    name: str
    prompts: tuple[PromptText, ...]
    content_hash: str


def load_prompts(name: str) -> PromptSuite:
    """Reads `suite` (embedded) or a .jsonl file.

    Raises:
        BadInputError: no such file, no prompt in it, an unknown field, an id used twice.
    """
    if name == "suite":
        text = (resources.files("orchestrator") / "data" / "prompts" / "suite.jsonl").read_text(
            encoding="utf-8"
        )
    else:
        try:
            text = read_text(Path(name).expanduser(), PROMPTS_BYTES)
        except (OSError, ValueError) as error:
            raise BadInputError(
                "--prompts", f"cannot read {name} ({error}); name 'suite' or a .jsonl file"
            ) from None
    prompts = [
        _parse(name, number, line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not prompts:
        raise BadInputError("--prompts", f"{name} holds no prompt")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise BadInputError("--prompts", f"{name}: id '{prompt.id}' is used twice; rename one")
        seen.add(prompt.id)
    canonical = json.dumps([prompt.model_dump() for prompt in prompts]).encode()
    return PromptSuite(
        name=name, prompts=tuple(prompts), content_hash=hashlib.sha256(canonical).hexdigest()
    )


def _parse(name: str, number: int, line: str) -> PromptText:
    try:
        return PromptText.model_validate(parse_json(line))
    except ValidationError as error:
        # A misspelt field is missing, too, and that says less.
        problems = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        first = problems[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        meant = did_you_mean(field, PromptText.model_fields)
        problem = (
            f"unknown field{meant or '; the fields are id, category and text'}"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        raise BadInputError("--prompts", f"{name} line {number}: {field}: {problem}") from None
    except ValueError as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise BadInputError(
            "--prompts", f"{name} line {number} is not a JSON object: {problem}"
        ) from None
