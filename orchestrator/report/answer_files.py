"""Tables → one JSON file a variant: every prompt with its answer."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.storage.reduce import Tables

# What a person reads of an answer; its tokens and times are in the tables.
_COLUMNS = (
    *("prompt_id", "category", "prompt_tokens", "new_tokens", "seconds", "finish_reason"),
    *("success", "error", "text"),
)


def answer_files(tables: Tables) -> dict[str, bytes]:
    """By variant, its answers in the prompts' order, each with what was asked."""
    asked: dict[int, str] = dict(
        zip(tables.prompts["prompt"].to_pylist(), tables.prompts["text"].to_pylist(), strict=True)
    )
    answers = tables.stages["generations"]
    return {
        name: _json(answers.filter(pc.field("variant") == name), name, asked)
        for name in tables.variants["variant"].to_pylist()
        if len(asked)
    }


def _json(rows: pa.Table, variant: str, asked: dict[int, str]) -> bytes:
    found: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        answer = {name: row[name] for name in _COLUMNS if name != "text"}
        found.append({**answer, "prompt": asked[row["prompt"]], "answer": row["text"]})
    content = {"variant": variant, "answers": found}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
