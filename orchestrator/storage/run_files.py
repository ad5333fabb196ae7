"""What a run's folder asks of the place where its files are: a disk, or an object store."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol


class RunFiles(Protocol):
    """A run's files by their names, such as `shards/nf4/windows-0.arrow`.

    Each is whole or not there. All methods that write or read raise OSError where that fails;
    those that read a name, FileNotFoundError where nothing has it.

    `str` of it is what a user knows the run by.
    """

    @property
    def name(self) -> str:
        """The run's id, unless somebody gave the folder another name."""

    @property
    def path(self) -> Path:
        """The folder, or what is a copy of it on this machine as far as it was read or written."""

    # What the run is. From when on it is written there is a run.

    def exists(self) -> bool:
        """Whether there is a run."""

    def read_manifest(self, most_bytes: int) -> bytes:
        """What the run is; of what has more than so many bytes, one more."""

    def write_manifest(self, content: bytes) -> None:
        """Says what the run is.

        Raises:
            TakenOverError: another driver writes the run now.
        """

    def manifest_time(self) -> datetime:
        """When it was last said what the run is."""

    # Who writes.

    def writing(self) -> AbstractContextManager[None]:
        """Has the run written by nobody else.

        Raises:
            BadInputError: another process writes it, or nobody can.
        """

    def publishing(self) -> AbstractContextManager[None]:
        """Has what is made of the run's shards written by nobody else.

        Raises:
            BadInputError: another process is at it.
        """

    def is_being_written(self) -> bool:
        """Whether somebody writes the run now, as far as can be told from here."""

    @property
    def silence(self) -> str:
        """What it means that nobody does, in words."""

    # Files.

    def shard_names(self) -> Iterable[str]:
        """The names of the shards' files; reads none."""

    def read(self, name: str, most_bytes: int | None = None) -> bytes:
        """A file's bytes; of one that has more than so many, one more."""

    def fetch(self, names: Sequence[str]) -> None:
        """Has files on this machine, those that are there, all at once."""

    def on_disk(self, name: str) -> Path:
        """A file on this machine, to be mapped; need not be there."""

    def where(self, name: str) -> str:
        """A file as a user finds it."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file over what is there."""

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that nobody has written; False where another driver has.

        Raises:
            TakenOverError: another driver writes the run now.
        """

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to write to."""

    def remove(self, name: str) -> None:
        """Takes a file away, where there is one."""

    def set_aside(self, name: str) -> None:
        """Renames a file, where there is one, to `*.damaged`."""

    # Events, of which there are ever more.

    def read_events(self) -> bytes:
        """The lines of all events so far, in order."""

    def append_events(self, lines: Iterable[str]) -> None:
        """Adds lines."""


class ResultsFiles(Protocol):
    """Where runs are, and pages on several of them."""

    def run(self, name: str) -> RunFiles:
        """A run, there or not."""

    def runs(self) -> list[RunFiles]:
        """The runs that are there, newest first."""

    def write_page(self, name: str, content: bytes) -> str:
        """Writes a page on several runs; where it is."""

    def check_writable(self) -> None:
        """Refuses a place that cannot be written, before anything starts; leaves nothing behind.

        Raises:
            BadInputError: it cannot be written, or not so that two drivers would notice each other.
        """
