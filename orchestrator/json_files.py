"""JSON of whoever wrote it: in bounded memory, and whatever it is, a value or a ValueError."""

import json
from pathlib import Path
from typing import Any

# Of a file. An empty list takes 2 bytes in a file and 64 in memory.
USUAL_BYTES = 64 * 2**20


def read_json(path: Path, most_bytes: int = USUAL_BYTES) -> Any:
    """What a file of JSON says.

    Args:
        most_bytes: that the file may have.

    Raises:
        ValueError: it is no JSON, too deep or too large.
        OSError: it cannot be read.
    """
    return parse_json(read_bounded(path, most_bytes), most_bytes)


def read_bounded(path: Path, most_bytes: int = USUAL_BYTES) -> bytes:
    """A file's bytes, for `parse_json`; of one that has more than so many, one more.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(most_bytes + 1)


def parse_json(content: str | bytes, most_bytes: int = USUAL_BYTES) -> Any:
    """What some JSON says; raises as `read_json` does."""
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes of JSON")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("lists in lists too deep") from None
