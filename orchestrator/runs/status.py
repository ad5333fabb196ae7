"""A run's folder → how far it is, how fast it goes and how long it will take."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from orchestrator.contract.manifest import Manifest
from orchestrator.gates.verdicts import Judgement
from orchestrator.storage.events import Event
from orchestrator.storage.file_names import RunFile
from orchestrator.storage.run_folder import RunFolder
from orchestrator.units import duration


@dataclass(frozen=True)
class VariantStatus:
    """How far a variant is.

    Attributes:
        items_per_second: while it works; None where nothing of it was computed lately.
        seconds_left: by that speed, should nothing change; None where it is not known.
        is_running: whether anybody works on the run.
    """

    variant: str
    finished_shards: int
    shards: int
    items_per_second: float | None
    seconds_left: float | None
    is_running: bool = True

    def __str__(self) -> str:
        text = f"{self.variant}: {self.finished_shards}/{self.shards} shards"
        if self.finished_shards == self.shards:
            return text
        if not self.is_running:
            return f"{text}, stopped"
        if self.items_per_second is None:
            return f"{text}, not begun or waiting"
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"{text}, {self.items_per_second:.2g} items/s{left}"


def progress_of(
    folder: RunFolder,
    manifest: Manifest,
    events: Sequence[Event],
    now: datetime,
    *,
    is_running: bool = True,
) -> list[VariantStatus]:
    """How far each variant is.

    A speed is of the items of a variant since its actors were loaded the last time.
    """
    done = folder.finished(manifest)
    found = []
    for record in manifest.variants:
        shards = [shard for shard in manifest.shards if shard.variant == record.variant]
        left = [shard.items for shard in shards if shard.fingerprint not in done]
        speed = _speed([event for event in events if event.variant == record.variant], now)
        found.append(
            VariantStatus(
                record.variant,
                len(shards) - len(left),
                len(shards),
                speed,
                sum(left) / speed if speed else None,
                is_running,
            )
        )
    return found


def undecided_gates(folder: RunFolder) -> list[str]:
    """The gates that the last report could not decide, each with what would; none without one."""
    try:
        judgement = Judgement.model_validate_json(folder.read(RunFile.GATES) or b"")
    except ValidationError:
        return []
    return [
        f"{result.variant}: '{result.gate}' is undecided"
        f"{f' in {result.category}' if result.category else ''}: {result.reason}"
        for result in judgement.results
        if result.verdict == "undecided"
    ]


def _speed(events: Sequence[Event], now: datetime) -> float | None:
    """Items a second since the first actor of the last start was loaded; None where none is."""
    working = 0
    begin: datetime | None = None
    items = 0
    for event in events:
        if event.event == "actor_loaded":
            if working == 0:
                begin, items = event.time, 0
            working += 1
        elif event.event == "actor_stopped":
            working = max(0, working - 1)
        elif event.event == "shard_computed" and begin is not None:
            items += event.items or 0
    if begin is None or not working or not items:
        return None
    return items / max((now - begin).total_seconds(), 1e-9)
