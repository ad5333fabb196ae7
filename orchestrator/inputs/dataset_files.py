"""A file or a folder of texts → its rows, whatever of the usual formats it is in."""

import gzip
import zlib
from pathlib import Path

from orchestrator.contract.variant_errors import first_line
from orchestrator.errors import BadInputError
from orchestrator.inputs.apart import APART, ApartError
from orchestrator.inputs.dataset_tables import TABLES
from orchestrator.inputs.texts import MOST_TEXT_BYTES, with_plain_line_ends

_TEXTS = ("", ".txt", ".text", ".raw", ".tokens", ".md")
_ACCEPTED = f"{', '.join([*TABLES, *_TEXTS[1:]])}, each also with .gz, or a folder of one kind"


def rows_of_path(path: Path, column: str) -> list[str]:
    r"""The rows of a file, or of the files of a folder in the order of their names.

    A text's rows are its lines, in the hub's layout of WikiText: a blank one is "", any other keeps
    its line end. A table's rows are the values of a column. Line ends are "\n" in both, and a byte
    order mark is no text.

    Raises:
        BadInputError: there is no such file, or it cannot be read as what its name says.
    """
    files, suffix = files_of_path(path)
    if suffix in TABLES:
        names = [str(file) for file in files]
        request = {"path": str(path), "files": names, "suffix": suffix, "column": column}
        try:
            rows: list[str] = APART.ask("rows_of_tables", request, files)
        except ApartError as error:
            raise BadInputError(
                "--dataset", f"{path} cannot be read as {suffix} ({error}); mend it, or cut it"
            ) from None
        return rows
    return [row for file in files for row in _rows_of_text(file)]


def files_of_path(path: Path) -> tuple[list[Path], str]:
    """The files that rows would be read of, in order, and the suffix that they share.

    Raises:
        BadInputError: there is none, or they are not of one known format.
    """
    files = _files(path)
    kinds = {suffix_of(file) for file in files}
    if len(kinds) != 1 or not kinds <= {*TABLES, *_TEXTS}:
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


def suffix_of(file: Path) -> str:
    """A file's suffix in small letters, that of its compression apart."""
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _rows_of_text(file: Path) -> list[str]:
    try:
        content = _content(file)
        text = with_plain_line_ends(content.decode("utf-8-sig"))
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
        content = stream.read(MOST_TEXT_BYTES + 1)
    if len(content) > MOST_TEXT_BYTES:
        raise ValueError(f"it holds more than {MOST_TEXT_BYTES >> 20} MiB of text; cut it")
    return content
