"""Writing files so that none is ever half-written, and no link is followed."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import BadInputError, CannotWriteError

_HALF = re.compile(r"\.(?P<name>.+)\.\d+\.tmp")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is either whole or not there afterwards, also after a power cut.

    A link of its name is replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Of a process of the same number that was killed, or somebody's link.
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_no_folder(path: Path | None, setting: str) -> None:
    """Refuses a folder where a user is to name a file.

    Raises:
        BadInputError: it is one.
    """
    if path is not None and path.is_dir():
        raise BadInputError(setting, f"{path} is a folder; name a file")


def write_for_user(path: Path, content: bytes) -> None:
    """Writes a file that a user has named.

    Raises:
        CannotWriteError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CannotWriteError(str(path), error) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is either whole or not there."""
    with atomic_file(path) as file:
        file.write(content)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Adds lines to a file, which need not be there; a line that a kill cut off stays one alone.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        cut_off = file.read(1) not in (b"", b"\n")
        file.write(("\n" * cut_off + "".join(f"{line}\n" for line in lines)).encode())


def remove_halves(folder: Path, mine: Callable[[str], bool] = lambda _: True) -> None:
    """Takes away what a killed writer left half-written.

    Args:
        folder: nothing is done where it is none, or a link.
        mine: says of a file's name whether nobody else can be writing it now.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        half = _HALF.fullmatch(path.name)
        if half is not None and mine(half["name"]):
            # What cannot go now is told of by whoever writes there.
            with suppress(OSError):
                path.unlink()
