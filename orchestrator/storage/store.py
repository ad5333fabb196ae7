"""A run's folder: the manifest, and one file a finished shard, which is its own completion mark."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import READABLE_VERSIONS, RUN_VERSION, Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import check_no_nulls
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.files import write_atomically
from orchestrator.settings import Settings
from orchestrator.storage.events import Event
from orchestrator.storage.shard_file import holds_shard, read_table, shard_content

# In `run.json`, of all else that it holds.
_CHECKSUM = "sha256"


def run_folders(results: Path) -> list[Path]:
    """The runs of a results folder, newest first."""
    manifests = results.glob("*/run.json") if results.is_dir() else []
    return [
        path.parent
        for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
    ]


def earlier_runs(settings: Settings) -> list[bool]:
    """Of each run that was begun with settings of the same words: whether it was finished."""
    said = settings.model_dump(mode="json")
    found = []
    for path in settings.results.glob(f"{settings.run_id or '*'}/run.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            manifest = json.loads(path.read_bytes())
            if manifest["settings"] == said:
                found.append(manifest["finished"] is not None)
    return found


def read_manifest(folder: Path) -> Manifest:
    """Reads a run's manifest.

    Raises:
        BadInputError: there is no run here, or it is of another version.
    """
    path = folder / "run.json"
    try:
        content = json.loads(path.read_bytes())
        version = content["version"] if "version" in content else content["schema_version"]
    except FileNotFoundError:
        known = ", ".join(path.name for path in run_folders(folder.parent)) or "none"
        raise BadInputError("RUN", f"no run {folder}; runs there: {known}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInputError("RUN", f"{path} cannot be read; set the folder aside") from None
    if version not in READABLE_VERSIONS:
        raise BadInputError(
            "RUN",
            f"{folder} is of version {version}, and this program knows versions up to "
            f"{RUN_VERSION}; measure again under another --run-id",
        )
    if content.pop(_CHECKSUM, None) != _checksum(content):
        raise BadInputError("RUN", f"{path} is not as it was written; set the folder aside")
    return Manifest.model_validate(content)


class RunStore:
    """The one writer of a run's folder, held under a lock that dies with its owner.

    Use as a context manager. Nothing is written but the lock before the first table.
    """

    def __init__(self, results: Path, manifest: Manifest) -> None:
        self.folder = results / manifest.run_id
        self._manifest = manifest
        # Before the first table nothing is written.
        self._unwritten_events: list[Event] = []
        self._lock = FileLock(self.folder / "run.lock")

    def __enter__(self) -> "RunStore":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # `status` holds it for a moment.
            self._lock.acquire(timeout=1)
            # A lock can be had in a folder that takes no new file.
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except Timeout:
            raise BadInputError(
                "--run-id",
                f"run {self.folder} is being written by another process; wait for it, "
                "or choose another --run-id",
            ) from None
        except OSError as error:
            raise BadInputError(
                "--results", f"{self.folder} cannot be written ({error.strerror}); name another"
            ) from None
        try:
            self._adopt_earlier_manifest()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if not (self.folder / "run.json").exists():
            (self.folder / "run.lock").unlink(missing_ok=True)
            # Other files in it are not this run's: leave them.
            with suppress(OSError):
                self.folder.rmdir()

    @property
    def manifest(self) -> Manifest:
        """What the run is, with the time of its first start."""
        return self._manifest

    def _adopt_earlier_manifest(self) -> None:
        if not (self.folder / "run.json").exists():
            return
        earlier = read_manifest(self.folder)
        differing = self._manifest.identity.differing(earlier.identity)
        if differing:
            raise BadInputError(
                "--run-id",
                f"run {self.folder} was made with other settings ({', '.join(differing)}); "
                "choose another --run-id",
            )
        self._manifest = self._manifest.model_copy(
            update={"started": earlier.started, "finished": earlier.finished}
        )
        # The shards may be cut otherwise this time; the report reads those of the last start.
        self._write_manifest()

    def finished(self) -> set[str]:
        """The fingerprints of the run's finished shards; touches no file."""
        return finished_fingerprints(self.folder, self._manifest)

    def set_aside_damaged(self) -> set[str]:
        """Renames each file that is not what its name says to `*.damaged`.

        Returns:
            The fingerprints of the finished shards, as of `finished`.
        """
        done = self.finished()
        for record in self._manifest.shards:
            path = shard_path(self.folder, record)
            if record.fingerprint not in done and path.exists():
                path.rename(path.with_suffix(".damaged"))
        return done

    def commit(self, record: ShardRecord, table: pa.Table) -> None:
        """Writes a shard's table: to a temporary name, synced, then renamed.

        Raises:
            SweepFailedError: the table is not of its stage's schema, carries no environment, or
                the disk refuses it.
        """
        _check(record, table)
        path = shard_path(self.folder, record)
        try:
            if self._manifest.finished is not None:
                # Something was lost, or is measured otherwise now.
                self._manifest = self._manifest.model_copy(update={"finished": None})
                self._write_manifest()
            if not (self.folder / "run.json").exists():
                self._write_manifest()
            self._write_events()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, shard_content(table, record.fingerprint))
        except OSError as error:
            raise SweepFailedError(
                f"{path} cannot be written ({error.strerror}); free some space, run again to resume"
            ) from None

    def read(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return read_table(shard_path(self.folder, record))

    def log(self, event: Event) -> None:
        """Adds a line to the run's `events.jsonl`, as soon as there is a run."""
        self._unwritten_events.append(event)
        if (self.folder / "run.json").exists():
            try:
                self._write_events()
            except OSError as error:
                raise SweepFailedError(
                    f"{self.folder / 'events.jsonl'} cannot be written ({error.strerror}); "
                    "free some space, run again to resume"
                ) from None

    def _write_events(self) -> None:
        if not self._unwritten_events:
            return
        lines = [event.model_dump_json(exclude_none=True) for event in self._unwritten_events]
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        self._unwritten_events.clear()

    def finish(self) -> None:
        """Notes the time at which the last shard came in, once."""
        if self._manifest.finished is None:
            self._manifest = self._manifest.model_copy(update={"finished": datetime.now(UTC)})
            self._write_manifest()

    def _write_manifest(self) -> None:
        content = self._manifest.model_dump(mode="json")
        stamped = {**content, _CHECKSUM: _checksum(content)}
        write_atomically(self.folder / "run.json", json.dumps(stamped, indent=2).encode() + b"\n")


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def shard_path(folder: Path, record: ShardRecord) -> Path:
    """Where a shard's table is, once it is finished."""
    return folder / "shards" / f"{record.name}.arrow"


def is_finished(folder: Path, record: ShardRecord) -> bool:
    """Whether a shard's table is there, byte for byte as it was written."""
    return holds_shard(shard_path(folder, record), record.fingerprint)


def finished_fingerprints(folder: Path, manifest: Manifest) -> set[str]:
    """The fingerprints of a run's finished shards; touches no file."""
    return {record.fingerprint for record in manifest.shards if is_finished(folder, record)}


def read_shards(folder: Path, manifest: Manifest) -> Iterator[tuple[ShardRecord, pa.Table]]:
    """The finished shards' tables, in the plan's order whatever order they were computed in.

    Each still carries the environment that it was computed in.
    """
    for record in manifest.shards:
        if is_finished(folder, record):
            yield record, read_table(shard_path(folder, record))


def _check(record: ShardRecord, table: pa.Table) -> None:
    try:
        environment_of(table.schema)
    except ValueError:
        raise SweepFailedError(f"{record.name}: the table does not say where it is from") from None
    if not table.schema.equals(STAGES[record.stage].schema) or table.num_rows != record.items:
        raise SweepFailedError(f"{record.name}: the actor returned a table of another shape")
    try:
        check_no_nulls(table)
    except ValueError as error:
        raise SweepFailedError(f"{record.name}: the actor's table is not whole: {error}") from None
