"""A table of texts → its rows, in whatever of the usual formats it is."""

import tempfile
import zlib
from typing import Any

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.texts import MOST_TEXT_BYTES, with_plain_line_ends

# What `datasets` calls a format, and how it is told to read texts as they are written.
TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}


def rows_of_tables(path: str, files: list[str], suffix: str, column: str) -> list[str]:
    """The values of a column, row by row.

    Args:
        path: what the user calls all of them.
        suffix: that the files share, a key of `TABLES`.

    Raises:
        BadInputError: they cannot be read as what they are called, or have no such column of texts.
    """
    # Imported here: it takes seconds, and a text needs none of it.
    import datasets
    from datasets.exceptions import DatasetsError
    from datasets.utils import logging

    # It logs what it raises.
    logging.set_verbosity(logging.CRITICAL)
    kind, options = TABLES[suffix]
    try:
        # Streamed, and with a cache of its own: a home may not be there to be written to.
        with tempfile.TemporaryDirectory() as cache:
            table = datasets.load_dataset(
                kind,
                data_files=files,
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
    rows = [_row_of_value(path, number, value, column) for number, value in enumerate(values)]
    if sum(map(len, rows)) > MOST_TEXT_BYTES:
        raise BadInputError(
            "--dataset", f"{path} holds more than {MOST_TEXT_BYTES >> 20} MiB of text; cut it"
        )
    return rows


_ABSENT = object()


def _row_of_value(path: str, number: int, value: Any, column: str) -> str:
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
    return with_plain_line_ends(value)
