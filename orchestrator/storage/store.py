"""The one writer of a run: its manifest, its shards, its events."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import pyarrow as pa

from orchestrator.contract.manifest import Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.errors import BadInputError, CannotWriteError, SweepFailedError
from orchestrator.integrity.outcome import Audit
from orchestrator.settings import Settings
from orchestrator.storage.events import Event
from orchestrator.storage.results_folder import ResultsFolder
from orchestrator.storage.shard_file import check_shard


def earlier_runs(results: ResultsFolder, settings: Settings) -> list[bool]:
    """Of each run that was begun with settings of the same words: whether it was finished."""
    said = settings.model_dump(mode="json")
    folders = results.runs() if settings.run_id is None else [results.run(settings.run_id)]
    # Not read whole: a folder may hold many, and a sweep waits for this.
    begun = filter(None, (folder.glance() for folder in folders))
    return [finished for words, finished in begun if words == said]


class RunStore:
    """Writes a run's folder, held under its lock.

    Use as a context manager. Nothing is written but the lock before the first table.

    Attributes:
        folder: the run's.
    """

    def __init__(self, results: ResultsFolder, manifest: Manifest) -> None:
        self.folder = results.run(manifest.run_id)
        self._manifest = manifest
        # Before the first table nothing is written.
        self._unwritten_events: list[Event] = []
        # The fingerprints of the shards whose files are known to be whole.
        self._whole: set[str] = set()
        self._held = ExitStack()

    def __enter__(self) -> "RunStore":
        with ExitStack() as stack:
            stack.enter_context(self.folder.writing())
            self._adopt_earlier_manifest()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def manifest(self) -> Manifest:
        """What the run is, with the time of its first start."""
        return self._manifest

    def _adopt_earlier_manifest(self) -> None:
        if not self.folder.exists():
            return
        earlier = self.folder.read_manifest()
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
        if earlier.decided is not None:
            self._manifest = self._manifest.up_to(earlier.decided)
        # The shards may be cut otherwise this time; the report reads those of the last start.
        self._write_manifest()

    def finished(self) -> set[str]:
        """The fingerprints of the run's finished shards; reads no file."""
        return self.folder.finished(self._manifest)

    def set_aside_damaged(self, fingerprints: AbstractSet[str] | None = None) -> set[str]:
        """Sets each file aside that is not what its name says; each is read once.

        What was written by this store is known to be whole.

        Args:
            fingerprints: of the shards to look at; None for all.

        Returns:
            The fingerprints of those that are finished no more.
        """
        there = self.finished() - self._whole
        asked = there if fingerprints is None else there & fingerprints
        records = [record for record in self._manifest.shards if record.fingerprint in asked]
        self.folder.fetch(records)
        damaged = set()
        for record in records:
            if self.folder.has_shard(record):
                self._whole.add(record.fingerprint)
            else:
                self.folder.set_aside(record)
                damaged.add(record.fingerprint)
        return damaged

    def commit(self, record: ShardRecord, table: pa.Table) -> None:
        """Writes a shard's table.

        Raises:
            SweepFailedError: the table is not of its stage's schema, carries no environment, or
                the disk refuses it.
        """
        try:
            check_shard(record, table)
        except ValueError as error:
            raise SweepFailedError(f"{record.name}: what an actor returned: {error}") from None
        with self._writing(record.name):
            if self._manifest.finished is not None:
                # Something was lost, or is measured otherwise now.
                self._manifest = self._manifest.model_copy(update={"finished": None})
                self.folder.write_manifest(self._manifest)
            if not self.folder.exists():
                self.folder.write_manifest(self._manifest)
            self._write_events()
            self.folder.write_shard(record, table)
            self._whole.add(record.fingerprint)

    def decide(self, look: int) -> None:
        """Ends the run at a look that decided its gates: what comes after it is not part of it."""
        self._manifest = self._manifest.up_to(look)
        self._write_manifest()

    def keep_audits(self, audits: Mapping[str, Audit]) -> None:
        """Keeps what the weights show of quantization before the run, as soon as there is one."""
        if self.folder.exists() and self.folder.read_audits().by_content != audits:
            with self._writing("what its weights show"):
                self.folder.write_audits(audits)

    def read(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return self.folder.read_shard(record)

    def log(self, event: Event) -> None:
        """Adds to the run's events, as soon as there is a run."""
        self._unwritten_events.append(event)
        if self.folder.exists():
            with self._writing("its events"):
                self._write_events()

    def _write_manifest(self) -> None:
        with self._writing("what the run is"):
            self.folder.write_manifest(self._manifest)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotWriteError(f"{self.folder}: {what}", error) from None

    def _write_events(self) -> None:
        if self._unwritten_events:
            self.folder.append_events(self._unwritten_events)
            self._unwritten_events.clear()

    def finish(self) -> None:
        """Notes the time at which the last shard came in, once."""
        if self._manifest.finished is None:
            self._manifest = self._manifest.model_copy(update={"finished": datetime.now(UTC)})
            self._write_manifest()
