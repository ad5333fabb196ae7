"""What two models say beside their weights, compared by content: not by how it was written down."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from orchestrator.inputs.gguf_files import open_gguf
from orchestrator.integrity.files import AuditedFiles
from orchestrator.integrity.inventory import METADATA, Difference
from orchestrator.json_files import read_json
from orchestrator.text_files import SETTINGS_BYTES, read_text

_TEMPLATE = "chat_template.jinja"
# A template may stand here, too.
_TOKENIZER_CONFIG = "tokenizer_config.json"
# Who wrote it down, and where it lay.
_OF_NO_ACCOUNT = frozenset({"transformers_version", "_name_or_path"})
# By later names.
_RENAMED = {"torch_dtype": "dtype"}
_NAMED, _LONGEST = 3, 40


def compared_by_content(
    by_hash: Sequence[Difference], expected: AuditedFiles, found: AuditedFiles
) -> list[Difference]:
    """Differences of two models, those of configuration, tokenizer, chat template and generation
    settings by what they say; where it is the same, there is none.

    Args:
        by_hash: those that `differences` finds.
    """
    before, after = _contents(expected), _contents(found)
    names = before.keys() | after.keys()
    rest = [each for each in by_hash if each.of == "tensor" or each.name not in names]
    return [*rest, *_differences(before, after)]


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield Difference(of="file", name=name, change="missing")
        elif name not in before:
            yield Difference(of="file", name=name, change="added")
        elif changes := _all_changes(before[name], after[name]):
            named = "; ".join(islice(changes, _NAMED))
            more = len(changes) - _NAMED
            detail = f"{named} and {more} more" if more > 0 else named
            yield Difference(of="file", name=name, change="changed", detail=detail)


def _contents(files: AuditedFiles) -> dict[str, Any]:
    """What a model's files say, by their names; those that cannot be read are left out."""
    if files.is_gguf:
        return {METADATA: dict(open_gguf(files.folder, "MODEL").values)}
    contents: dict[str, Any] = {}
    for path in sorted(files.folder.glob("*.json")):
        # Where each tensor lies is seen to by their own hashes.
        if path.is_file() and not path.name.endswith(".safetensors.index.json"):
            _add(path, contents)
    template = files.folder / _TEMPLATE
    if template.is_file():
        try:
            contents[_TEMPLATE] = read_text(template, SETTINGS_BYTES)
        except (OSError, ValueError):
            contents.pop(_TEMPLATE, None)
    return contents


def _add(path: Path, contents: dict[str, Any]) -> None:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return
    if isinstance(content, dict):
        content = {
            _RENAMED.get(key, key): value
            for key, value in content.items()
            if key not in _OF_NO_ACCOUNT
        }
        if path.name == _TOKENIZER_CONFIG and "chat_template" in content:
            contents[_TEMPLATE] = content.pop("chat_template")
    contents[path.name] = content


def _all_changes(before: Any, after: Any) -> list[str]:
    try:
        return list(_changes(before, after))
    except RecursionError:
        return ["lists in lists too deep to be compared"]


def _changes(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Each place where two contents differ, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys(), key=str):
            place = f"{at}.{key}" if at else str(key)
            if key not in after:
                yield f"no {place}"
            elif key not in before:
                yield f"{place} is new"
            else:
                yield from _changes(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{at or 'it'} has {len(after)} entries, was {len(before)}"
            return
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{at}[{number}]")
    elif type(before) is not type(after) or before != after:
        yield f"{at} is {_short(after)}, was {_short(before)}" if at else "its text"


def _short(value: Any) -> str:
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
