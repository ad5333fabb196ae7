"""A run's folder: the manifest, and one file a finished shard, which is its own completion mark."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.plan import Plan, Shard
from orchestrator.shards import STAGES, Stage
from orchestrator.tables import SCHEMA_VERSION, STAGE_SCHEMAS

_FINGERPRINT_KEY = b"orchestrator.fingerprint"
_SCHEMA_KEY = b"orchestrator.schema_version"


class ShardRecord(BaseModel):
    """A shard that the run consists of."""

    model_config = ConfigDict(frozen=True)

    variant: str
    stage: Stage
    items: int
    fingerprint: str
    path: str


class VariantRecord(BaseModel):
    """A row of the table `variants`."""

    model_config = ConfigDict(frozen=True)

    variant: str
    kind: str
    options: str
    weights_dtype: str
    compute_dtype: str
    expected_weights_bytes: int
    planned_windows: int
    planned_prompts: int


class Manifest(BaseModel):
    """`run.json`: what the run is, and all that its report needs beside the shard files."""

    model_config = ConfigDict(frozen=True)

    schema_version: int
    run_id: str
    reference: str
    started: datetime
    finished: datetime | None = None
    identity: dict[str, Any]
    settings: dict[str, Any]
    model_id: str
    model_revision: str | None
    dataset_name: str
    documents: int
    tokens: int
    words: int
    bytes: int
    variants: tuple[VariantRecord, ...]
    shards: tuple[ShardRecord, ...]


def manifest_of(plan: Plan) -> Manifest:
    """The manifest of a plan, started now."""
    inputs = plan.inputs
    items = dict.fromkeys(STAGES, 0)
    for shard in plan.shards:
        if shard.variant == plan.variants[0].variant.name:
            items[shard.work.stage] += _items(shard)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=plan.run_id,
        reference=plan.settings.reference_variant,
        started=datetime.now(UTC),
        identity=plan.identity,
        settings=plan.settings.model_dump(mode="json"),
        model_id=inputs.model.id,
        model_revision=inputs.model.location.revision,
        dataset_name=inputs.dataset.name,
        documents=inputs.dataset.documents,
        tokens=inputs.corpus.tokens,
        words=inputs.corpus.words,
        bytes=inputs.corpus.bytes,
        variants=tuple(
            VariantRecord(
                variant=planned.variant.name,
                kind=planned.variant.kind,
                options=json.dumps(planned.variant.options, sort_keys=True),
                weights_dtype=planned.variant.weights_dtype,
                compute_dtype=planned.compute_dtype,
                expected_weights_bytes=planned.expected_weights_bytes,
                planned_windows=items["windows"],
                planned_prompts=items["generations"],
            )
            for planned in plan.variants
        ),
        shards=tuple(
            ShardRecord(
                variant=shard.variant,
                stage=shard.work.stage,
                items=_items(shard),
                fingerprint=shard.fingerprint,
                path=shard.path,
            )
            for shard in plan.shards
        ),
    )


def _items(shard: Shard) -> int:
    match shard.work.stage:
        case "windows":
            return len(shard.work.windows)
        case "generations":
            return len(shard.work.prompts)
        case "memory":
            return 1


def run_folders(results: Path) -> list[Path]:
    """The runs of a results folder, newest first."""
    manifests = results.glob("*/run.json") if results.is_dir() else []
    return [
        path.parent
        for path in sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
    ]


def read_manifest(folder: Path) -> Manifest:
    """Reads a run's manifest.

    Raises:
        BadInputError: there is no run here, or it is of another version.
    """
    try:
        return Manifest.model_validate_json((folder / "run.json").read_bytes())
    except FileNotFoundError:
        known = ", ".join(path.name for path in run_folders(folder.parent)) or "none"
        raise BadInputError("RUN", f"no run {folder}; runs there: {known}") from None
    except (OSError, ValueError):
        raise BadInputError(
            "RUN", f"{folder / 'run.json'} cannot be read; set the folder aside"
        ) from None


class RunStore:
    """The one writer of a run's folder, held under a lock that dies with its owner.

    Use as a context manager. Nothing is written but the lock before the first table.
    """

    def __init__(self, results: Path, manifest: Manifest) -> None:
        self.folder = results / manifest.run_id
        self._manifest = manifest
        self._lock = FileLock(self.folder / "run.lock")

    def __enter__(self) -> "RunStore":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
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
        mine, theirs = self._manifest.identity, earlier.identity
        differing = sorted(
            key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)
        )
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
        self.write_manifest()

    def finished(self, shards: Iterable[Shard]) -> set[str]:
        """The fingerprints of the shards whose tables are here and whole.

        A file that is not what its name says is renamed to `*.damaged` and not counted.
        """
        done: set[str] = set()
        for shard in shards:
            path = self.folder / "shards" / shard.path
            if not path.exists():
                continue
            if _is_whole(path, shard.fingerprint):
                done.add(shard.fingerprint)
            else:
                path.rename(path.with_suffix(".damaged"))
        return done

    def commit(self, shard: Shard, table: pa.Table) -> None:
        """Writes a shard's table: to a temporary name, synced, then renamed.

        Raises:
            SweepFailedError: the table is not of its stage's schema, or the disk refuses it.
        """
        schema = STAGE_SCHEMAS[shard.work.stage]
        if not table.schema.equals(schema) or table.num_rows != _items(shard):
            raise SweepFailedError(f"{shard.path}: the actor returned a table of another shape")
        path = self.folder / "shards" / shard.path
        try:
            if not (self.folder / "run.json").exists():
                self.write_manifest()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _with_identity(table, shard.fingerprint))
        except OSError as error:
            raise SweepFailedError(
                f"{path} cannot be written ({error.strerror}); free some space, run again to resume"
            ) from None

    def finish(self) -> None:
        """Notes the time at which the last shard came in, once."""
        if self._manifest.finished is None:
            self._manifest = self._manifest.model_copy(update={"finished": datetime.now(UTC)})
            self.write_manifest()

    def write_manifest(self) -> None:
        """Writes `run.json`."""
        write_atomically(
            self.folder / "run.json", self._manifest.model_dump_json(indent=2).encode() + b"\n"
        )


def read_stage(folder: Path, manifest: Manifest, stage: Stage) -> pa.Table:
    """All finished rows of a stage, in the plan's order whatever order they were computed in."""
    schema = STAGE_SCHEMAS[stage]
    files = [
        (folder / "shards" / record.path, record.fingerprint)
        for record in manifest.shards
        if record.stage == stage
    ]
    tables = [
        pa.ipc.open_file(pa.memory_map(str(path))).read_all().replace_schema_metadata(None)
        for path, fingerprint in files
        if _is_whole(path, fingerprint)
    ]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def finished_fingerprints(folder: Path, manifest: Manifest) -> set[str]:
    """The fingerprints of a run's finished shards, without touching any file."""
    return {
        record.fingerprint
        for record in manifest.shards
        if _is_whole(folder / "shards" / record.path, record.fingerprint)
    }


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is either whole or not there, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
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


def remaining(shards: Sequence[Shard], done: set[str]) -> list[Shard]:
    """The shards that are still to be computed, in order."""
    return [shard for shard in shards if shard.fingerprint not in done]


def _with_identity(table: pa.Table, fingerprint: str) -> bytes:
    metadata = {
        _FINGERPRINT_KEY: fingerprint.encode(),
        _SCHEMA_KEY: str(SCHEMA_VERSION).encode(),
    }
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    return bytes(sink.getvalue())


def _is_whole(path: Path, fingerprint: str) -> bool:
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return bool(
        metadata.get(_FINGERPRINT_KEY) == fingerprint.encode()
        and metadata.get(_SCHEMA_KEY) == str(SCHEMA_VERSION).encode()
    )
