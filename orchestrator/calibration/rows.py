"""A file of calibration texts → its rows, a few at a time: it may be larger than memory."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.dataset_files import rows_of_path, suffix_of
from orchestrator.inputs.dataset_tables import TABLES

_SETTING = "FILE"
# Of a line.
_MOST_BYTES = 64 * 2**20
# What chats are kept under, and what a turn says.
_CHATS = ("messages", "conversations", "conversation")
_SAID = ("content", "value")
_CATEGORIES = ("category", "source", "subset")
_TEXTS = ("", ".txt", ".text", ".raw", ".md")


@dataclass(frozen=True)
class Row:
    """A text that a quantizer would be calibrated with.

    Attributes:
        category: what its file says that it is of; None where it does not.
    """

    text: str
    category: str | None = None


def read_rows(path: Path, column: str) -> Iterator[Row]:
    """The rows of a file, blank ones left out.

    A line of JSON, or a row of a table, has its text in a column, or is a chat, whose turns are one
    text. Of a file of text a row is a paragraph: what stands between blank lines.

    Args:
        column: the one that holds the text.

    Raises:
        BadInputError: it cannot be read as what its name says.
    """
    try:
        for row in _rows(path, suffix_of(path), column):
            if row.text.strip():
                yield row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInputError(_SETTING, f"{path} cannot be read ({first_line(error)})") from None


def _rows(path: Path, suffix: str, column: str) -> Iterator[Row]:
    if suffix in (".jsonl", ".ndjson"):
        yield from _of_json_lines(path, column)
    elif suffix == ".parquet":
        yield from _of_parquet(path, column)
    elif suffix in _TEXTS:
        yield from _of_text(path)
    elif suffix in TABLES:
        yield from map(Row, rows_of_path(path, column))
    else:
        known = ", ".join([*TABLES, *_TEXTS[1:]])
        raise BadInputError(_SETTING, f"{path} is of no known format; name one of {known}")


def _lines(path: Path) -> Iterator[bytes]:
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    file: IO[bytes]
    with opener(path, "rb") as file:
        while line := file.readline(_MOST_BYTES + 1):
            if len(line) > _MOST_BYTES:
                raise BadInputError(
                    _SETTING, f"{path} has a line of more than {_MOST_BYTES >> 20} MiB; cut it"
                )
            yield line


def _of_json_lines(path: Path, column: str) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInputError(
                _SETTING, f"{path} line {number} is no JSON ({first_line(error)}); mend it"
            ) from None
        yield _row_of(value, column, f"{path} line {number}")


def _of_parquet(path: Path, column: str) -> Iterator[Row]:
    # Imported here: only this format needs it.
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        wanted = [
            name for name in (column, *_CHATS, *_CATEGORIES) if name in file.schema_arrow.names
        ]
        number = 0
        for batch in file.iter_batches(batch_size=1000, columns=wanted):
            for value in batch.to_pylist():
                number += 1
                yield _row_of(value, column, f"{path} row {number}")
    except pa.ArrowException as error:
        raise BadInputError(
            _SETTING, f"{path} is no Parquet file ({first_line(error)}); mend it"
        ) from None


def _of_text(path: Path) -> Iterator[Row]:
    paragraph: list[str] = []
    for line in _lines(path):
        text = line.decode("utf-8-sig")
        if text.strip():
            paragraph.append(text)
        elif paragraph:
            yield Row("".join(paragraph).rstrip("\r\n"))
            paragraph = []
    yield Row("".join(paragraph).rstrip("\r\n"))


def _row_of(value: Any, column: str, where: str) -> Row:
    if not isinstance(value, Mapping):
        raise BadInputError(_SETTING, f"{where} is no object with a column '{column}'")
    category = next(
        (str(value[name]) for name in _CATEGORIES if isinstance(value.get(name), str)), None
    )
    text = value.get(column)
    if isinstance(text, str):
        return Row(text, category)
    for name in _CHATS:
        if isinstance(value.get(name), list):
            return Row("\n".join(_turns(value[name])), category)
    raise BadInputError(
        _SETTING,
        f"{where} has no text in a column '{column}', and no chat in {', '.join(_CHATS)}; say "
        "which column does: --text-column",
    )


def _turns(chat: list[Any]) -> Iterator[str]:
    for turn in chat:
        if isinstance(turn, Mapping):
            yield from (turn[name] for name in _SAID if isinstance(turn.get(name), str))
