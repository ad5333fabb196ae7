"""The files of a run: their names, how they are written, read, locked and listed.

Nothing else knows any of that. What a run's files mean is for those who read and write them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import ValidationError

from orchestrator.contract.manifest import READABLE_VERSIONS, RUN_VERSION, Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.errors import BadInputError
from orchestrator.files import atomic_file, write_atomically
from orchestrator.storage.events import Event
from orchestrator.storage.shard_file import holds_shard, read_batches, read_table, shard_content
from orchestrator.storage.stamp import stamped, unstamped

_MANIFEST, _LOCK, _EVENTS = "run.json", "run.lock", "events.jsonl"


class RunFile(StrEnum):
    """What is made of a run's shards."""

    COMPARISON = "comparison.json"
    COMPARISON_SCHEMA = "comparison.schema.json"
    GATES = "gates.json"
    MARKDOWN = "report.md"
    PAGE = "report.html"
    KL_PLOT = "kl.svg"
    TRACE = "trace.json"


class RunGroup(StrEnum):
    """What is made of a run's shards, several files of a kind: their folders."""

    SUMMARY = "summary"
    ANSWERS = "answers"


@dataclass(frozen=True)
class RunFolder:
    """A run's files in a folder, which need not be there yet.

    Attributes:
        path: the folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The run's id, unless somebody gave the folder another name."""
        return self.path.name

    def exists(self) -> bool:
        """Whether there is a run."""
        return (self.path / _MANIFEST).is_file()

    # The manifest.

    def read_manifest(self) -> Manifest:
        """What the run is.

        Raises:
            BadInputError: there is no run here, or it is of another version.
        """
        path = self.path / _MANIFEST
        try:
            content = json.loads(path.read_bytes())
            version = content["version"] if "version" in content else content["schema_version"]
        except FileNotFoundError:
            known = ", ".join(run.name for run in ResultsFolder(self.path.parent).runs()) or "none"
            raise BadInputError("RUN", f"no run {self}; runs there: {known}") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInputError("RUN", f"{path} cannot be read; set the folder aside") from None
        if version not in READABLE_VERSIONS:
            raise BadInputError(
                "RUN",
                f"{self} is of version {version}, and this program knows versions up to "
                f"{RUN_VERSION}; measure again under another --run-id",
            )
        try:
            return Manifest.model_validate(unstamped(content))
        except ValueError:
            raise BadInputError(
                "RUN", f"{path} is not as it was written; set the folder aside"
            ) from None

    def glance(self) -> tuple[dict[str, Any], bool] | None:
        """The settings that the run was begun with, and whether it was finished, unchecked.

        Returns:
            None where there is nothing to be read.
        """
        try:
            content = json.loads((self.path / _MANIFEST).read_bytes())
            return content["settings"], content["finished"] is not None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def written(self) -> datetime:
        """When it was last said what the run is."""
        return datetime.fromtimestamp((self.path / _MANIFEST).stat().st_mtime, UTC)

    def write_manifest(self, manifest: Manifest) -> None:
        """Says what the run is, from when on there is one."""
        write_atomically(self.path / _MANIFEST, stamped(manifest.model_dump(mode="json")))

    # Who writes.

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Has the run written by nobody else; the lock dies with its owner.

        A folder in which no run came to be is left as it was found.

        Raises:
            BadInputError: another process writes it, or nobody can.
        """
        lock = FileLock(self.path / _LOCK)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Whoever asks whether it is being written holds it for a moment.
            lock.acquire(timeout=1)
            # A lock can be had in a folder that takes no new file.
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except Timeout:
            raise BadInputError(
                "--run-id",
                f"run {self} is being written by another process; wait for it, "
                "or choose another --run-id",
            ) from None
        except OSError as error:
            raise BadInputError(
                "--results", f"{self} cannot be written ({error.strerror}); name another"
            ) from None
        try:
            yield
        finally:
            lock.release()
            if not self.exists():
                (self.path / _LOCK).unlink(missing_ok=True)
                # Other files in it are not this run's: leave them.
                with suppress(OSError):
                    self.path.rmdir()

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

    # Shards: a file each, which is its own completion mark.

    def shard_path(self, record: ShardRecord) -> Path:
        """Where a shard's table is, once it is finished."""
        return self.path / "shards" / f"{record.name}.arrow"

    def has_shard(self, record: ShardRecord) -> bool:
        """Whether a shard's table is there, byte for byte as it was written."""
        return holds_shard(self.shard_path(record), record.fingerprint)

    def finished(self, manifest: Manifest) -> set[str]:
        """The fingerprints of a run's finished shards; touches no file."""
        return {record.fingerprint for record in manifest.shards if self.has_shard(record)}

    def read_shard(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return read_table(self.shard_path(record))

    def read_shard_batches(self, record: ShardRecord) -> Iterator[pa.RecordBatch]:
        """A finished shard's table, a batch at a time."""
        return read_batches(self.shard_path(record))

    def read_shards(self, manifest: Manifest) -> Iterator[tuple[ShardRecord, pa.Table]]:
        """The finished shards' tables, in the plan's order whatever order they were computed in."""
        for record in manifest.shards:
            if self.has_shard(record):
                yield record, self.read_shard(record)

    def write_shard(self, record: ShardRecord, table: pa.Table) -> None:
        """Finishes a shard: its table is there whole, or not at all."""
        path = self.shard_path(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, shard_content(table, record.fingerprint))

    def set_aside(self, record: ShardRecord) -> None:
        """Renames a shard's file, where there is one, to `*.damaged`."""
        path = self.shard_path(record)
        if path.exists():
            path.rename(path.with_suffix(".damaged"))

    # Events.

    def read_events(self) -> list[Event]:
        """What happened in the run, in order; a line that is being written is left out."""
        try:
            lines = (self.path / _EVENTS).read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with suppress(ValidationError):
                found.append(Event.model_validate_json(line))
        return found

    def append_events(self, events: Sequence[Event]) -> None:
        """Adds what happened."""
        lines = [event.model_dump_json(exclude_none=True) for event in events]
        with (self.path / _EVENTS).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    # What is made of all that.

    def read(self, file: RunFile) -> bytes | None:
        """A file's content; None where it cannot be read."""
        try:
            return (self.path / file).read_bytes()
        except OSError:
            return None

    def write(self, file: RunFile, content: bytes | None) -> Path:
        """Writes a file whole; without content takes away one of another time.

        Returns:
            Where it is.
        """
        path = self.path / file
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, content)
        return path

    def write_group(self, group: RunGroup, files: Mapping[str, bytes]) -> None:
        """Writes files into a folder of their own, by name; those of another time go."""
        folder = self.path / group
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name not in files:
                path.unlink()
        for name, content in files.items():
            write_atomically(folder / name, content)

    def open_table(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file for a table's Parquet, whole or not there afterwards."""
        folder = self.path / "tables"
        folder.mkdir(exist_ok=True)
        return atomic_file(folder / f"{name}.parquet")


@dataclass(frozen=True)
class ResultsFolder:
    """A folder that holds runs, and pages on several of them."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def run(self, name: str) -> RunFolder:
        """A run, there or not."""
        return RunFolder(self.path / name)

    def find(self, named: str) -> RunFolder:
        """What somebody names: a run's folder, or one of these runs, there or not."""
        folder = RunFolder(Path(named).expanduser())
        return folder if folder.exists() else self.run(named)

    def runs(self) -> list[RunFolder]:
        """The runs that are there, newest first."""
        manifests = self.path.glob(f"*/{_MANIFEST}") if self.path.is_dir() else []
        return [
            RunFolder(path.parent)
            for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
        ]

    def write_page(self, name: str, content: str) -> Path:
        """Writes a page on several runs; where it is."""
        path = self.path / f"{name}.html"
        write_atomically(path, content.encode())
        return path

    def check_writable(self) -> None:
        """Refuses a folder that cannot be written, before anything starts; leaves none behind.

        Raises:
            BadInputError: it cannot be made.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(
                "--results", f"{self} cannot be written ({error.strerror}); name another"
            ) from None
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
