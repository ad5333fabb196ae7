"""A run's files as objects under a URL, written by several drivers at most one after the other.

An object store has no lock that dies with its owner, and no append; it has one promise: of two who
create an object, one is told that it is there. All rests on that:

- What the run is stands in `manifests/NNNNNNNN.json`, of which the highest number counts. Whoever
  wrote that one is the run's driver. A newer driver creates the next one, and by that takes the run
  over; the older sees it before its next file, and stops.
- A shard is created once, under a name that holds its fingerprint. Who comes second drops its own.
- Events are objects by their driver's first number and one of their own.
"""

import os
import platform
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic import Field

from orchestrator.contract.frozen import Frozen
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.storage.file_names import MANIFEST, SHARD_ENDING, SHARDS
from orchestrator.storage.object_store import ObjectStore
from orchestrator.storage.run_files import RunFiles

_MANIFESTS, _EVENTS = "manifests", "events"
# Of a driver that says nothing for longer, it is not known whether it lives.
_SILENCE = timedelta(minutes=10)
# Files that are held in memory at once on their way to this machine.
_AT_ONCE = 64


class TakenOverError(SweepFailedError):
    """Another driver writes the run now."""


class _DriverName(Frozen):
    """Who writes a run; two of one name are two."""

    name: str = Field(default_factory=lambda: f"{platform.node()}, process {os.getpid()}")
    since: datetime = Field(default_factory=lambda: datetime.now(UTC))
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"the driver on {self.name}, started {self.since:%Y-%m-%d %H:%M:%S} UTC"


class _Said(Frozen):
    """An object that says what a run is.

    Attributes:
        run: as `run.json` has it on a disk.
    """

    driver: _DriverName
    run: str


@dataclass
class _Driver:
    """What the driver of a run knows of it.

    Attributes:
        newest: the number of the manifest that counts; 0 before the first.
        first: that of the first one which this driver wrote; None before.
        events: how many objects of events it wrote.
    """

    newest: int
    first: int | None = None
    events: int = 0
    name: _DriverName = field(default_factory=_DriverName)


class ObjectFiles:
    """A run's files under a URL: as `RunFiles` says.

    What was read or written of them is kept on this machine until the process ends.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._driver: _Driver | None = None
        # Listed once: who writes the run knows of the files that are added.
        self._shards: set[str] | None = None

    def __str__(self) -> str:
        return self._store.url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectFiles) and self._store == other._store

    def __hash__(self) -> int:
        return hash(self._store)

    @property
    def name(self) -> str:
        return self._store.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        return Path(self._copies.name)

    @cached_property
    def _copies(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True)

    # What the run is.

    def exists(self) -> bool:
        if self._driver is not None:
            return self._driver.newest > 0
        return bool(self._manifests())

    def read_manifest(self, most_bytes: int) -> bytes:
        return self._said(self._newest(), most_bytes).run.encode()

    def write_manifest(self, content: bytes) -> None:
        driver = self._driver
        assert driver is not None, "only the driver says what a run is"
        said = _Said(driver=driver.name, run=content.decode())
        if not self._store.create(_manifest(driver.newest + 1), said.model_dump_json().encode()):
            raise self._taken_over(driver.newest + 1)
        driver.newest += 1
        driver.first = driver.first or driver.newest

    def manifest_time(self) -> datetime:
        return max(self._manifests().values())

    def _manifests(self) -> dict[str, datetime]:
        return self._store.names(_MANIFESTS)

    def _newest(self) -> int:
        """The number of the manifest that counts.

        Raises:
            FileNotFoundError: there is none.
        """
        if self._driver is not None and self._driver.newest:
            return self._driver.newest
        numbers = [int(name.rpartition("/")[2].partition(".")[0]) for name in self._manifests()]
        if not numbers:
            raise FileNotFoundError(f"no manifest in {self}")
        return max(numbers)

    def _said(self, number: int, most_bytes: int | None = None) -> _Said:
        return _Said.model_validate_json(self._store.get(_manifest(number), most_bytes))

    # Who writes.

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `RunFiles`; who wrote the run before is stopped by the first manifest from here."""
        try:
            self._driver = _Driver(newest=self._newest())
        except FileNotFoundError:
            self._driver = _Driver(newest=0)
        except OSError as error:
            raise BadInputError(
                "--results", f"{self} cannot be read ({error.strerror}); name another"
            ) from None
        try:
            yield
        finally:
            self._driver = None

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """As `RunFiles`; who is not the run's driver writes its report once that has ended."""
        if self._driver is None and self.is_being_written():
            raise BadInputError(
                "RUN",
                f"{self._said(self._newest()).driver} writes {self} now, and reports at the end; "
                f"`status {self}` says how far it is",
            )
        yield

    def is_being_written(self) -> bool:
        """Whether the run's driver said something lately, and did not say that it ended."""
        events = self._store.names(_EVENTS)
        if not events:
            return False
        last = max(events)
        ended = b'"event":"run_ended"' in self._store.get(last).rstrip(b"\n").rpartition(b"\n")[2]
        return not ended and datetime.now(UTC) - events[last] < _SILENCE

    silence = "its driver has ended, or said nothing for ten minutes"

    def _stay_driver(self) -> None:
        """Refuses to write what another driver may be writing.

        Raises:
            TakenOverError: there is a newer driver.
        """
        if self._driver is not None and self._store.has(_manifest(self._driver.newest + 1)):
            raise self._taken_over(self._driver.newest + 1)

    def _taken_over(self, number: int) -> TakenOverError:
        return TakenOverError(
            f"{self} was taken over by {self._said(number).driver}; what was finished here is "
            "kept, and this driver stops"
        )

    # Files.

    def shard_names(self) -> Iterable[str]:
        if self._shards is None:
            there = self._store.names(SHARDS)
            self._shards = {name for name in there if name.endswith(SHARD_ENDING)}
        return self._shards

    def read(self, name: str, most_bytes: int | None = None) -> bytes:
        return self._store.get(name, most_bytes)

    def fetch(self, names: Sequence[str]) -> None:
        there = {*self.shard_names()}
        lacking = (name for name in names if name in there and not (self.path / name).exists())
        while some := [*islice(lacking, _AT_ONCE)]:
            for name, content in self._store.get_many(some).items():
                self._keep(name, content)

    def on_disk(self, name: str) -> Path:
        if not (self.path / name).exists():
            for found, content in self._store.get_many([name]).items():
                self._keep(found, content)
        return self.path / name

    def _keep(self, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def where(self, name: str) -> str:
        return f"{self}/{_MANIFESTS if name == MANIFEST else name}"

    def write(self, name: str, content: bytes) -> None:
        self._stay_driver()
        self._store.put(name, content)
        self._keep(name, content)

    def create(self, name: str, content: bytes) -> bool:
        self._stay_driver()
        created = self._store.create(name, content)
        if created:
            self._keep(name, content)
        if self._shards is not None:
            self._shards.add(name)
        return created

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        self._stay_driver()
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file
        self._store.put_file(name, path)

    def remove(self, name: str) -> None:
        self._stay_driver()
        self._store.remove(name)
        (self.path / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        try:
            content = self._store.get(name)
        except FileNotFoundError:
            return
        self.write(str(Path(name).with_suffix(".damaged")), content)
        self.remove(name)
        if self._shards is not None:
            self._shards.discard(name)

    # Events.

    def read_events(self) -> bytes:
        found = self._store.get_many(self._store.names(_EVENTS))
        return b"".join(found[name] for name in sorted(found))

    def append_events(self, lines: Iterable[str]) -> None:
        driver = self._driver
        assert driver is not None and driver.first is not None, "only the driver says what happens"
        name = f"{_EVENTS}/{driver.first:08}-{driver.events:08}.jsonl"
        self._store.create(name, "".join(f"{line}\n" for line in lines).encode())
        driver.events += 1


def _manifest(number: int) -> str:
    return f"{_MANIFESTS}/{number:08}.json"


@dataclass(frozen=True)
class ObjectResults:
    """A prefix that holds runs, as `ResultsFiles` says."""

    store: ObjectStore

    def __str__(self) -> str:
        return self.store.url

    def run(self, name: str) -> RunFiles:
        return ObjectFiles(self.store.under(name))

    def runs(self) -> list[RunFiles]:
        written = {}
        for name in self.store.folders():
            if times := self.store.names(f"{name}/{_MANIFESTS}"):
                written[name] = max(times.values())
        return [self.run(name) for name in sorted(written, key=written.__getitem__, reverse=True)]

    def write_page(self, name: str, content: bytes) -> str:
        self.store.put(name, content)
        return f"{self}/{name}"

    def check_writable(self) -> None:
        self.store.check_creates_once()
