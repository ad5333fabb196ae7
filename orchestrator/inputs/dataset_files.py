"""A file or a folder of texts → its rows, whatever of the usual formats it is in."""

import gzip
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError

# What `datasets` calls a format, and how it is told to read texts as they are written.
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}
# A hundred times the test split of WikiText-2.
_MOST_TEXT_BYTES = 2**27
_TEXTS = ("", ".txt", ".text", ".raw", ".tokens", ".md")
_ACCEPTED = f"{', '.join([*_TABLES, *_TEXTS[1:]])}, each also with .gz, or a folder of one kind"


def rows_of_path(path: Path, column: str) -> list[str]:
    r"""The rows of a file, or of the files of a folder in the order of their names.

    A text's rows are its lines, in the hub's layout of WikiText: a blank one is "", any other keeps
    its line end. A table's rows are the values of a column. Line ends are "\n" in both, and a byte
    order mark is no text.

    Raises:
        BadInputError: there is no such file, or it cannot be read as what its name says.
    """
    files, suffix = files_of_path(path)
    if suffix in _TABLES:
        return _rows_of_tables(path, files, suffix, column)
    return [row for file in files for row in _rows_of_text(file)]


def files_of_path(path: Path) -> tuple[list[Path], str]:
    """The files that rows would be read of, in order, and the suffix that they share.

    Raises:
        BadInputError: there is none, or they are not of one known format.
    """
    files = _files(path)
    kinds = {_suffix(file) for file in files}
    if len(kinds) != 1 or not kinds <= {*_TABLES, *_TEXTS}:
        raise BadInputError(
            "--dataset",
            f"{path} is of no known format ({', '.join(sorted(kinds))}); name one of {_ACCEPTED}",
        )
    return files, kinds.pop()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise BadInputError(
            "--dataset", f"no file {path}; name wikitext2, demo, or one of {_ACCEPTED}"
        )
    return files


def _suffix(file: Path) -> str:
    """A file's suffix in small letters, that of its compression apart."""
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _rows_of_tables(path: Path, files: Sequence[Path], suffix: str, column: str) -> list[str]:
    # Imported here: it takes seconds, and a text needs none of it.
    import datasets
    from datasets.exceptions import DatasetsError
    from datasets.utils import logging

    # It logs what it raises.
    logging.set_verbosity(logging.CRITICAL)
    kind, options = _TABLES[suffix]
    try:
        # Streamed, and with a cache of its own: a home may not be there to be written to.
        with tempfile.TemporaryDirectory() as cache:
            table = datasets.load_dataset(
                kind,
                data_files=[str(file) for file in files],
                split="train",
                streaming=True,
                cache_dir=cache,
                **options,
            )
            values = [row.get(column, _ABSENT) for row in table]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, DatasetsError) as error:
        raise BadInputError(
            "--dataset", f"{path} cannot be read as {suffix} ({first_line(error)}); mend it"
        ) from None
    return [_row_of_value(path, number, value, column) for number, value in enumerate(values)]


_ABSENT = object()


def _row_of_value(path: Path, number: int, value: Any, column: str) -> str:
    if value is _ABSENT:
        raise BadInputError(
            "--dataset", f"{path} has no column '{column}'; say which holds the text: --text-column"
        )
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInputError(
            "--dataset",
            f"{path} row {number + 1}: column '{column}' holds a {type(value).__name__} and no "
            "text; say which column does: --text-column",
        )
    return _with_plain_line_ends(value)


def _rows_of_text(file: Path) -> list[str]:
    try:
        content = _content(file)
        text = _with_plain_line_ends(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInputError(
            "--dataset", f"{file} is not UTF-8 (byte {error.start}); convert it"
        ) from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInputError("--dataset", f"cannot read {file}: {first_line(error)}") from None
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [f"{line}\n" if line.strip() else "" for line in lines]


def _content(file: Path) -> bytes:
    """What a file of text holds, unpacked.

    Raises:
        ValueError: it is more than any text.
    """
    opener = gzip.open if file.suffix.lower() == ".gz" else open
    with opener(file, "rb") as stream:
        content = stream.read(_MOST_TEXT_BYTES + 1)
    if len(content) > _MOST_TEXT_BYTES:
        raise ValueError(f"it holds more than {_MOST_TEXT_BYTES >> 20} MiB of text; cut it")
    return content


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
