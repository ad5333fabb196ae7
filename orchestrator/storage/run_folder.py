"""The files of a run: their names, how they are written, read, locked and listed.

Nothing else knows any of that. What a run's files mean is for those who read and write them.
"""

import os
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
from orchestrator.errors import BadInputError, CannotWriteError
from orchestrator.files import append_lines, atomic_file, remove_halves, write_atomically
from orchestrator.integrity.outcome import Audit
from orchestrator.json_files import read_bounded, read_json
from orchestrator.storage.audits import KeptAudits, audits_content, parse_audits
from orchestrator.storage.events import Event, EventLog
from orchestrator.storage.own_files import WRITTEN, own_folder, replace_group
from orchestrator.storage.shard_file import read_batches, read_table, shard_content, whole_table
from orchestrator.storage.stamp import stamped, unstamped

_MANIFEST, _LOCK, _EVENTS = "run.json", "run.lock", "events.jsonl"
_AUDITS = "audits.json"
_REPORT_LOCK, _PROBE = "report.lock", ".writable"
_SHARDS, _TABLES = "shards", "tables"
_SHARD_ENDING = ".arrow"
# Of `run.json`, of which a shard takes about 300, and of `audits.json`, a tensor about 500.
_MANIFEST_BYTES = 2**28
# A report takes seconds.
_TURN_SECONDS = 120.0


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
            content = read_json(path, _MANIFEST_BYTES)
            version = content["version"] if "version" in content else content["schema_version"]
        except FileNotFoundError:
            known = ", ".join(run.name for run in runs_in(self.path.parent)) or "none"
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
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadInputError(
                "RUN", f"{path} is not as it was written; set the folder aside"
            ) from None

    def glance(self) -> tuple[dict[str, Any], bool] | None:
        """The settings that the run was begun with, and whether it was finished, unchecked.

        Returns:
            None where there is nothing to be read.
        """
        try:
            content = read_json(self.path / _MANIFEST, _MANIFEST_BYTES)
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
            raise not_writable(self.path, error) from None
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
        remove_halves(self.path, lambda name: name in (_MANIFEST, _PROBE, _AUDITS))
        shards = self.path / _SHARDS
        if shards.is_dir() and not shards.is_symlink():
            for folder in shards.iterdir():
                remove_halves(folder)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Has the files that are made of the run's shards written by nobody else; waits its turn.

        Raises:
            BadInputError: another process is at it all the time.
            CannotWriteError: a file cannot be written; those before it are whole.
        """
        try:
            with FileLock(self.path / _REPORT_LOCK, timeout=_TURN_SECONDS):
                remove_halves(self.path, lambda name: name in {*RunFile, WRITTEN})
                for name in (*RunGroup, _TABLES):
                    remove_halves(self.path / name)
                yield
        except Timeout:
            raise BadInputError(
                "RUN", f"another process writes the report of {self}; wait for it, or end it"
            ) from None
        except OSError as error:
            raise CannotWriteError(f"the report of {self}", error) from None

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
        return self.path / _SHARDS / f"{record.name}{_SHARD_ENDING}"

    def has_shard(self, record: ShardRecord) -> bool:
        """Whether a shard's table is there, byte for byte as it was written."""
        return whole_table(self.shard_path(record), record) is not None

    def finished(self, manifest: Manifest) -> set[str]:
        """The fingerprints of a run's finished shards, by their files' names, which have them.

        Nothing is read: whether a file is whole is seen when it is (`has_shard`).
        """
        there = set(self._shard_names())
        return {record.fingerprint for record in manifest.shards if record.name in there}

    def _shard_names(self) -> Iterator[str]:
        with suppress(OSError), os.scandir(self.path / _SHARDS) as variants:
            for variant in variants:
                with suppress(OSError), os.scandir(variant.path) as files:
                    for file in files:
                        if file.name.endswith(_SHARD_ENDING):
                            yield f"{variant.name}/{file.name.removesuffix(_SHARD_ENDING)}"

    def read_shard(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return read_table(self.shard_path(record))

    def read_shard_batches(self, record: ShardRecord) -> Iterator[pa.RecordBatch]:
        """A finished shard's table, a batch at a time."""
        return read_batches(self.shard_path(record))

    def read_shards(self, manifest: Manifest) -> Iterator[tuple[ShardRecord, pa.Table]]:
        """The finished shards' tables, in the plan's order whatever order they were computed in."""
        for record in manifest.shards:
            table = whole_table(self.shard_path(record), record)
            if table is not None:
                yield record, table

    def write_shard(self, record: ShardRecord, table: pa.Table) -> None:
        """Finishes a shard: its table is there whole, or not at all."""
        path = self.shard_path(record)
        own_folder(self.path, _SHARDS, path.parent.name)
        write_atomically(path, shard_content(table, record.fingerprint))

    def set_aside(self, record: ShardRecord) -> None:
        """Renames a shard's file, where there is one, to `*.damaged`."""
        path = self.shard_path(record)
        if path.exists():
            own_folder(self.path, _SHARDS, path.parent.name)
            path.rename(path.with_suffix(".damaged"))

    # Events.

    def read_events(self) -> EventLog:
        """What happened in the run, in order; a line that is being written is left out."""
        try:
            *lines, _ = (self.path / _EVENTS).read_bytes().split(b"\n")
        except OSError:
            return EventLog([], 0)
        found = []
        for line in lines:
            with suppress(ValidationError):
                found.append(Event.model_validate_json(line))
        return EventLog(found, unread=len(lines) - len(found))

    def append_events(self, events: Sequence[Event]) -> None:
        """Adds what happened."""
        append_lines(
            self.path / _EVENTS, (event.model_dump_json(exclude_none=True) for event in events)
        )

    # What the weights show of quantization before the run.

    def read_audits(self) -> KeptAudits:
        """The audits that are kept of the run's checkpoints."""
        try:
            content = read_bounded(self.path / _AUDITS, _MANIFEST_BYTES)
        except FileNotFoundError:
            return KeptAudits()
        except OSError as error:
            return KeptAudits(problem=f"cannot be read ({error.strerror})")
        return parse_audits(content, _MANIFEST_BYTES)

    def write_audits(self, audits: Mapping[str, Audit]) -> None:
        """Keeps audits, by their checkpoints' content hashes."""
        write_atomically(self.path / _AUDITS, audits_content(audits))

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
        """Writes files into a folder of their own, by name; what it wrote there before goes."""
        replace_group(self.path, group, files)

    def open_table(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file for a table's Parquet, whole or not there afterwards."""
        return atomic_file(own_folder(self.path, _TABLES) / f"{name}.parquet")


def runs_in(folder: Path) -> list[RunFolder]:
    """The runs of a folder, newest first."""
    manifests = folder.glob(f"*/{_MANIFEST}") if folder.is_dir() else []
    return [
        RunFolder(path.parent)
        for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
    ]


def not_writable(path: Path, error: OSError) -> BadInputError:
    """What is said of a results folder, or of a run's, that takes no files."""
    return BadInputError("--results", f"{path} cannot be written ({error.strerror}); name another")
