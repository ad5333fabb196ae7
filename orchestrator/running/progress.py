"""Progress: a live line per variant on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as LiveProgress

from orchestrator.console import say
from orchestrator.contract.shards import ShardRecord

# Between two plain lines of one variant, so that a log of hours can be read.
_PLAIN_INTERVAL_SECONDS = 10.0


class Progress:
    """Tells how far each variant is. Use as a context manager.

    Args:
        shards: all of the run.
        done: fingerprints of those that were finished before.
        console: where to write; standard error, so that standard output holds results alone.
    """

    def __init__(self, shards: Sequence[ShardRecord], done: set[str], console: Console) -> None:
        self._console = console
        self._live: LiveProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._totals: Counter[str] = Counter()
        self.plan(shards)
        self._done = Counter(shard.variant for shard in shards if shard.fingerprint in done)
        self._items: Counter[str] = Counter()
        self._begin = time.monotonic()
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = LiveProgress(
                TextColumn("[bold]{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("shards"),
                TextColumn("{task.fields[speed]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            for variant, total in self._totals.items():
                self._tasks[variant] = self._live.add_task(
                    variant, total=total, completed=self._done[variant], speed=""
                )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def plan(self, shards: Sequence[ShardRecord]) -> None:
        """Takes in how many there are of each variant."""
        self._totals = Counter(shard.variant for shard in shards)
        if self._live is not None:
            for variant, task in self._tasks.items():
                self._live.update(task, total=self._totals[variant])

    def finished(self, shard: ShardRecord) -> None:
        """Counts a shard as done."""
        variant = shard.variant
        self._done[variant] += 1
        self._items[variant] += shard.items
        speed = f"{self._items[variant] / (time.monotonic() - self._begin):.1f} items/s"
        if self._live is not None:
            self._live.update(self._tasks[variant], completed=self._done[variant], speed=speed)
            return
        now = time.monotonic()
        last = self._done[variant] == self._totals[variant]
        if last or now - self._said.get(variant, 0.0) >= _PLAIN_INTERVAL_SECONDS:
            self._said[variant] = now
            say(
                self._console,
                f"{variant}: {self._done[variant]}/{self._totals[variant]} shards, {speed}",
            )

    def note(self, message: str) -> None:
        """Says something that the user should know of."""
        say(self._console, message)
