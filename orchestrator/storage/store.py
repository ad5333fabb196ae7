"""The one writer of a run: its manifest, its shards, its events."""

from contextlib import ExitStack
from datetime import UTC, datetime

import pyarrow as pa

from orchestrator.contract.environment import environment_of
from orchestrator.contract.manifest import Manifest
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.contract.tables import check_no_nulls
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.settings import Settings
from orchestrator.storage.events import Event
from orchestrator.storage.run_folder import ResultsFolder


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
        self._held = ExitStack()

    def __enter__(self) -> "RunStore":
        with ExitStack() as stack:
            stack.enter_context(self.folder.lock())
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
        self.folder.write_manifest(self._manifest)

    def finished(self) -> set[str]:
        """The fingerprints of the run's finished shards; touches no file."""
        return self.folder.finished(self._manifest)

    def set_aside_damaged(self) -> set[str]:
        """Sets each file aside that is not what its name says.

        Returns:
            The fingerprints of the finished shards, as of `finished`.
        """
        done = self.finished()
        for record in self._manifest.shards:
            if record.fingerprint not in done:
                self.folder.set_aside(record)
        return done

    def commit(self, record: ShardRecord, table: pa.Table) -> None:
        """Writes a shard's table.

        Raises:
            SweepFailedError: the table is not of its stage's schema, carries no environment, or
                the disk refuses it.
        """
        _check(record, table)
        try:
            if self._manifest.finished is not None:
                # Something was lost, or is measured otherwise now.
                self._manifest = self._manifest.model_copy(update={"finished": None})
                self.folder.write_manifest(self._manifest)
            if not self.folder.exists():
                self.folder.write_manifest(self._manifest)
            self._write_events()
            self.folder.write_shard(record, table)
        except OSError as error:
            raise _refusal(f"{self.folder}: {record.name}", error) from None

    def decide(self, look: int) -> None:
        """Ends the run at a look that decided its gates: what comes after it is not part of it."""
        self._manifest = self._manifest.up_to(look)
        self.folder.write_manifest(self._manifest)

    def read(self, record: ShardRecord) -> pa.Table:
        """A finished shard's table, with the environment that it was computed in."""
        return self.folder.read_shard(record)

    def log(self, event: Event) -> None:
        """Adds to the run's events, as soon as there is a run."""
        self._unwritten_events.append(event)
        if self.folder.exists():
            try:
                self._write_events()
            except OSError as error:
                raise _refusal(f"{self.folder}: its events", error) from None

    def _write_events(self) -> None:
        if self._unwritten_events:
            self.folder.append_events(self._unwritten_events)
            self._unwritten_events.clear()

    def finish(self) -> None:
        """Notes the time at which the last shard came in, once."""
        if self._manifest.finished is None:
            self._manifest = self._manifest.model_copy(update={"finished": datetime.now(UTC)})
            self.folder.write_manifest(self._manifest)


def _refusal(what: str, error: OSError) -> SweepFailedError:
    return SweepFailedError(
        f"{what} cannot be written ({error.strerror}); free some space, run again to resume"
    )


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
