"""Progress: a live line per variant and one of all on a terminal, plain lines elsewhere."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as LiveProgress

from orchestrator.console import say
from orchestrator.contract.shards import ShardRecord
from orchestrator.contract.stages import STAGES
from orchestrator.units import duration

# Between two plain lines of one variant, so that a log of hours can be read.
_PLAIN_INTERVAL_SECONDS = 10.0
# The line of all, as no variant can be called.
_ALL = ""


class Progress:
    """Tells how far each variant is, and all of them. Use as a context manager.

    Args:
        shards: all of the run.
        done: fingerprints of those that were finished before.
        console: where to write; standard error, so that standard output holds results alone.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        shards: Sequence[ShardRecord],
        done: set[str],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._clock = clock
        self._live: LiveProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._totals: Counter[str] = Counter()
        self.plan(shards)
        self._done = Counter(shard.variant for shard in shards if shard.fingerprint in done)
        # By variant and stage: the items, and the seconds that devices were at them.
        self._items: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._began = clock()
        self._left_seconds: float | None = None
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = LiveProgress(
                TextColumn("[bold]{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("shards"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[state]}"),
                console=self._console,
            )
            for variant, total in self._totals.items():
                self._tasks[variant] = self._live.add_task(
                    variant, total=total, completed=self._done[variant], state="", start=False
                )
            total, done = self._totals.total(), self._done.total()
            self._tasks[_ALL] = self._live.add_task("all", total=total, completed=done, state="")
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
                total = self._totals.total() if variant == _ALL else self._totals[variant]
                self._live.update(task, total=total)

    def loading(self, variant: str) -> None:
        """A device begins to load a variant: one that is counted, or one that these need."""
        if self._live is None or variant not in self._tasks:
            say(self._console, f"{variant}: loading…", variant=variant)
            return
        self._live.start_task(self._tasks[variant])
        self._live.update(self._tasks[variant], state="loading…")

    def finished(self, shard: ShardRecord, seconds: float, left_seconds: float | None) -> None:
        """Counts a shard as done.

        Args:
            seconds: that a device was at it.
            left_seconds: what all that is left will take; None where nobody can tell yet.
        """
        variant, key = shard.variant, (shard.variant, shard.stage)
        self._done[variant] += 1
        self._items[key] += shard.items
        self._seconds[key] += seconds
        self._left_seconds = left_seconds
        rate = self._rate(key)
        if self._live is not None:
            self._live.update(self._tasks[variant], completed=self._done[variant], state=rate)
            self._live.update(self._tasks[_ALL], completed=self._done.total(), state=self._left())
            return
        now = self._clock()
        last = self._done[variant] == self._totals[variant]
        if last or now - self._said.get(variant, 0.0) >= _PLAIN_INTERVAL_SECONDS:
            self._said[variant] = now
            say(
                self._console,
                f"{variant}: {self._done[variant]}/{self._totals[variant]} shards"
                f"{f', {rate}' if rate else ''}; in all "
                f"{self._done.total()}/{self._totals.total()}, {duration(now - self._began)}"
                f"{self._left(', ')}",
                variant=variant,
            )

    def _rate(self, key: tuple[str, str]) -> str:
        """How fast a device does a variant's items of a stage; empty where that says nothing."""
        items = STAGES[key[1]].items
        if not items or not self._seconds[key]:
            return ""
        return f"{self._items[key] / self._seconds[key]:.3g} {items}/s"

    def _left(self, before: str = "") -> str:
        if self._left_seconds is None or self._done.total() == self._totals.total():
            return ""
        return f"{before}about {duration(self._left_seconds)} left"

    def note(self, message: str) -> None:
        """Says something that the user should know of."""
        say(self._console, message)
