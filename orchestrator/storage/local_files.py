"""A run's files in a folder of a disk, with a lock that dies with its owner."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from orchestrator.errors import BadInputError
from orchestrator.files import append_lines, atomic_file, remove_halves, write_atomically
from orchestrator.json_files import read_bounded
from orchestrator.storage.file_names import (
    AUDITS,
    EVENTS,
    MANIFEST,
    SHARD_ENDING,
    SHARDS,
    TABLES,
    WRITTEN,
    RunFile,
    RunGroup,
)
from orchestrator.storage.own_folders import own_folder
from orchestrator.storage.run_files import RunFiles

_LOCK, _REPORT_LOCK, _PROBE = "run.lock", "report.lock", ".writable"
# A report takes seconds.
_TURN_SECONDS = 120.0


@dataclass(frozen=True)
class LocalFiles:
    """A run's files in a folder, which need not be there yet: as `RunFiles` says."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        return (self.path / MANIFEST).is_file()

    def read_manifest(self, most_bytes: int) -> bytes:
        return read_bounded(self.path / MANIFEST, most_bytes)

    def write_manifest(self, content: bytes) -> None:
        write_atomically(self.path / MANIFEST, content)

    def manifest_time(self) -> datetime:
        return datetime.fromtimestamp((self.path / MANIFEST).stat().st_mtime, UTC)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `RunFiles`; a folder in which no run came to be is left as it was found."""
        lock = FileLock(self.path / _LOCK)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Answers are in it: for its owner alone, unless they say otherwise.
            self.path.mkdir(mode=0o700, exist_ok=True)
            # Whoever asks whether it is being written holds it for a moment.
            lock.acquire(timeout=1)
            # A lock can be had in a folder that takes no new file.
            write_atomically(self.path / _PROBE, b"")
            (self.path / _PROBE).unlink()
            self._remove_halves_of_shards()
        except Timeout:
            raise BadInputError(
                "--run-id",
                f"run {self} is being written by another process; wait for it, "
                "or choose another --run-id",
            ) from None
        except OSError as error:
            raise _not_writable(self.path, error) from None
        try:
            yield
        finally:
            lock.release()
            if not self.exists():
                (self.path / _LOCK).unlink(missing_ok=True)
                # Other files in it are not this run's: leave them.
                with suppress(OSError):
                    self.path.rmdir()

    def _remove_halves_of_shards(self) -> None:
        """Takes away what an earlier writer that was killed left half-written."""
        remove_halves(self.path, lambda name: name in (MANIFEST, _PROBE, AUDITS))
        shards = self.path / SHARDS
        if shards.is_dir() and not shards.is_symlink():
            for folder in shards.iterdir():
                remove_halves(folder)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """As `RunFiles`; waits its turn."""
        try:
            with FileLock(self.path / _REPORT_LOCK, timeout=_TURN_SECONDS):
                remove_halves(self.path, lambda name: name in {*RunFile, WRITTEN})
                for name in (*RunGroup, TABLES):
                    remove_halves(self.path / name)
                yield
        except Timeout:
            raise BadInputError(
                "RUN", f"another process writes the report of {self}; wait for it, or end it"
            ) from None

    def is_being_written(self) -> bool:
        """Whether a process of this machine writes the run now."""
        try:
            with FileLock(self.path / _LOCK).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            # Who may not write here cannot tell.
            return False

    silence = "it does not run on this machine"

    def shard_names(self) -> Iterator[str]:
        with suppress(OSError), os.scandir(self.path / SHARDS) as variants:
            for variant in variants:
                with suppress(OSError), os.scandir(variant.path) as files:
                    for file in files:
                        if file.name.endswith(SHARD_ENDING):
                            yield f"{SHARDS}/{variant.name}/{file.name}"

    def read(self, name: str, most_bytes: int | None = None) -> bytes:
        path = self.path / name
        return path.read_bytes() if most_bytes is None else read_bounded(path, most_bytes)

    def fetch(self, names: Sequence[str]) -> None:
        pass

    def on_disk(self, name: str) -> Path:
        return self.path / name

    def where(self, name: str) -> str:
        return str(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self._own(name), content)

    def create(self, name: str, content: bytes) -> bool:
        # Under the lock there is no other driver.
        self.write(name, content)
        return True

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        return atomic_file(self._own(name))

    def remove(self, name: str) -> None:
        self._own(name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        path = self.path / name
        if path.exists():
            self._own(name)
            path.rename(path.with_suffix(".damaged"))

    def _own(self, name: str) -> Path:
        *folders, file = name.split("/")
        return own_folder(self.path, *folders) / file

    def read_events(self) -> bytes:
        return (self.path / EVENTS).read_bytes()

    def append_events(self, lines: Iterable[str]) -> None:
        append_lines(self.path / EVENTS, lines)


@dataclass(frozen=True)
class LocalResults:
    """A folder that holds runs, as `ResultsFiles` says."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def run(self, name: str) -> RunFiles:
        return LocalFiles(self.path / name)

    def runs(self) -> list[RunFiles]:
        manifests = self.path.glob(f"*/{MANIFEST}") if self.path.is_dir() else []
        return [
            LocalFiles(path.parent)
            for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
        ]

    def write_page(self, name: str, content: bytes) -> str:
        write_atomically(self.path / name, content)
        return str(self.path / name)

    def check_writable(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(self.path, error) from None
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()


def _not_writable(path: Path, error: OSError) -> BadInputError:
    """What is said of a results folder, or of a run's, that takes no files."""
    return BadInputError("--results", f"{path} cannot be written ({error.strerror}); name another")
