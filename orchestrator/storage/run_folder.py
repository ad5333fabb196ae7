"""The files of a run, wherever they are: what each holds, and how it is checked when it is read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pydantic import ValidationError

from orchestrator.contract.manifest import READABLE_VERSIONS, RUN_VERSION, Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.errors import BadInputError, CannotWriteError
from orchestrator.integrity.outcome import Audit
from orchestrator.json_files import parse_json
from orchestrator.storage.audits import KeptAudits, audits_content, parse_audits
from orchestrator.storage.events import Event, EventLog
from orchestrator.storage.file_names import (
    AUDITS,
    MANIFEST,
    SHARD_ENDING,
    SHARDS,
    TABLES,
    RunFile,
    RunGroup,
)
from orchestrator.storage.groups import replace_group
from orchestrator.storage.run_files import RunFiles
from orchestrator.storage.shard_file import read_batches, read_table, shard_content, whole_table
from orchestrator.storage.stamp import stamped, unstamped

# Of `run.json`, of which a shard takes about 300, and of `audits.json`, a tensor about 500.
_MANIFEST_BYTES = 2**28


@dataclass(frozen=True)
class RunFolder:
    """A run's files, which need not be there yet.

    Attributes:
        files: where they are.
    """

    files: RunFiles

    def __str__(self) -> str:
        return str(self.files)

    @property
    def name(self) -> str:
        """The run's id, unless somebody gave the folder another name."""
        return self.files.name

    @property
    def path(self) -> Path:
        """The folder; of a run at a URL, a copy of what of it was read or written, which goes with
        the process.
        """
        return self.files.path

    def exists(self) -> bool:
        """Whether there is a run."""
        return self.files.exists()

    # The manifest.

    def read_manifest(self) -> Manifest:
        """What the run is.

        Raises:
            BadInputError: there is no run here, or it is of another version.
        """
        where = self.files.where(MANIFEST)
        try:
            content = self._manifest_content()
            version = content["version"] if "version" in content else content["schema_version"]
        except FileNotFoundError:
            raise BadInputError("RUN", f"no run {self}") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInputError("RUN", f"{where} cannot be read; set the folder aside") from None
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
                "RUN", f"{where} is not as it was written; set the folder aside"
            ) from None

    def glance(self) -> tuple[dict[str, Any], bool] | None:
        """The settings that the run was begun with, and whether it was finished, unchecked.

        Returns:
            None where there is nothing to be read.
        """
        try:
            content = self._manifest_content()
            return content["settings"], content["finished"] is not None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _manifest_content(self) -> Any:
        return parse_json(self.files.read_manifest(_MANIFEST_BYTES), _MANIFEST_BYTES)

    @property
    def written(self) -> datetime:
        """When it was last said what the run is."""
        return self.files.manifest_time()

    def write_manifest(self, manifest: Manifest) -> None:
        """Says what the run is, from when on there is one; raises as `RunFiles` does."""
        self.files.write_manifest(stamped(manifest.model_dump(mode="json")))

    # Who writes.

    def writing(self) -> AbstractContextManager[None]:
        """Has the run written by nobody else; raises as `RunFiles` does."""
        return self.files.writing()

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Has the files that are made of the run's shards written by nobody else; waits its turn.

        Raises:
            BadInputError: another process is at it all the time.
            CannotWriteError: a file cannot be written; those before it are whole.
        """
        try:
            with self.files.publishing():
                yield
        except OSError as error:
            raise CannotWriteError(f"the report of {self}", error) from None

    def is_being_written(self) -> bool:
        """Whether somebody writes the run now, as far as can be told from here."""
        return self.files.is_being_written()

    @property
    def silence(self) -> str:
        """Why a run is taken for one that nobody writes, in words."""
        return self.files.silence

    # Shards: a file each, which is its own completion mark.

    def shard_path(self, record: ShardRecord) -> Path:
        """Where a shard's table is on this machine, once it is finished."""
        return self.files.on_disk(_file_of(record))

    def fetch(self, records: Sequence[ShardRecord]) -> None:
        """Has finished shards' files on this machine, before each is asked for."""
        self.files.fetch([_file_of(record) for record in records])

    def has_shard(self, record: ShardRecord) -> bool:
        """Whether a shard's table is there, byte for byte as it was written."""
        return whole_table(self.shard_path(record), record) is not None

    def finished(self, manifest: Manifest) -> set[str]:
        """The fingerprints of a run's finished shards, by their files' names, which have them.

        Nothing is read: whether a file is whole is seen when it is (`has_shard`).
        """
        there = set(self.files.shard_names())
        return {record.fingerprint for record in manifest.shards if _file_of(record) in there}

    def read_shard(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return read_table(self.shard_path(record))

    def read_shard_batches(self, record: ShardRecord) -> Iterator[pa.RecordBatch]:
        """A finished shard's table, a batch at a time."""
        return read_batches(self.shard_path(record))

    def read_shards(self, manifest: Manifest) -> Iterator[tuple[ShardRecord, pa.Table]]:
        """The finished shards' tables, in the plan's order whatever order they were computed in."""
        self.fetch(manifest.shards)
        for record in manifest.shards:
            table = whole_table(self.shard_path(record), record)
            if table is not None:
                yield record, table

    def write_shard(self, record: ShardRecord, table: pa.Table) -> None:
        """Finishes a shard: its table is there whole, or not at all.

        Where another driver has finished it meanwhile, its table stays.

        Raises:
            TakenOverError: another driver writes the run now.
        """
        file, content = _file_of(record), shard_content(table, record.fingerprint)
        if self.files.create(file, content) or self.has_shard(record):
            return
        self.set_aside(record)
        self.files.create(file, content)

    def set_aside(self, record: ShardRecord) -> None:
        """Renames a shard's file, where there is one, to `*.damaged`."""
        self.files.set_aside(_file_of(record))

    # Events.

    def read_events(self) -> EventLog:
        """What happened in the run, in order; a line that is being written is left out."""
        try:
            *lines, _ = self.files.read_events().split(b"\n")
        except OSError:
            return EventLog([], 0)
        found = []
        for line in lines:
            with suppress(ValidationError):
                found.append(Event.model_validate_json(line))
        return EventLog(found, unread=len(lines) - len(found))

    def append_events(self, events: Sequence[Event]) -> None:
        """Adds what happened."""
        self.files.append_events(event.model_dump_json(exclude_none=True) for event in events)

    # What the weights show of quantization before the run.

    def read_audits(self) -> KeptAudits:
        """The audits that are kept of the run's checkpoints."""
        try:
            content = self.files.read(AUDITS, _MANIFEST_BYTES)
        except FileNotFoundError:
            return KeptAudits()
        except OSError as error:
            return KeptAudits(problem=f"cannot be read ({error.strerror})")
        return parse_audits(content, _MANIFEST_BYTES)

    def write_audits(self, audits: Mapping[str, Audit]) -> None:
        """Keeps audits, by their checkpoints' content hashes."""
        self.files.write(AUDITS, audits_content(audits))

    # What is made of all that.

    def read(self, file: RunFile) -> bytes | None:
        """A file's content; None where it cannot be read."""
        try:
            return self.files.read(file)
        except OSError:
            return None

    def where(self, file: RunFile) -> str:
        """A file as a user finds it: a path, or a URL."""
        return self.files.where(file)

    def write(self, file: RunFile, content: bytes | None) -> None:
        """Writes a file whole; without content takes away one of another time."""
        if content is None:
            self.files.remove(file)
        else:
            self.files.write(file, content)

    def write_group(self, group: RunGroup, files: Mapping[str, bytes]) -> None:
        """Writes files into a folder of their own, by name; what it wrote there before goes."""
        replace_group(self.files, group, files)

    def open_table(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file for a table's Parquet, whole or not there afterwards."""
        return self.files.open(f"{TABLES}/{name}.parquet")


def _file_of(record: ShardRecord) -> str:
    return f"{SHARDS}/{record.name}{SHARD_ENDING}"
