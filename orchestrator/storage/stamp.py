"""JSON that knows when somebody has changed it: a digest of all else stands in it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

STAMP = "sha256"


def stamped(content: Mapping[str, Any]) -> bytes:
    """The file of an object, with its digest: the SHA-256 of its canonical form.

    That is JSON with sorted keys and nothing but what `json.dumps` puts between them, in UTF-8; how
    the file itself is laid out is of no account.
    """
    whole = {**content, STAMP: _digest(content)}
    return json.dumps(whole, indent=2).encode() + b"\n"


def unstamped(content: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its digest.

    Raises:
        ValueError: it is not as it was written.
    """
    rest = {key: value for key, value in content.items() if key != STAMP}
    if content.get(STAMP) != _digest(rest):
        raise ValueError("not as it was written")
    return rest


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
