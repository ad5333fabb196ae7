"""The loop that hands out shards and takes in tables, on whatever pool the actors live."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from orchestrator.contract.errors import CannotLoadError
from orchestrator.contract.shards import Shard, ShardRecord
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.plan import Plan
from orchestrator.running.policy import next_variant, tries_again
from orchestrator.running.pool import Actor, Call, CallFailedError, Pool
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest

# How long a stop waits at most before it is acted upon.
_POLL_SECONDS = 0.5


@dataclass
class Outcome:
    """How a dispatch ended.

    Attributes:
        abandoned: shards that were given up, with the reason.
        stopped: whether a stop was asked for before all was done.
    """

    abandoned: list[tuple[ShardRecord, str]] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True)
class _Active:
    """An actor at work, on a shard or, without one, on loading its model."""

    actor: Actor
    variant: str
    shard: Shard | None = None


class Dispatcher:
    """Runs a plan's remaining shards.

    An actor loads its model, then gets one shard after another; without one it is stopped. What
    failed goes to another actor, a few times.

    Args:
        plan: what to run.
        pool: where actors live.
        commit: takes in a finished shard's table.
        progress: is told of every shard.
    """

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        commit: Callable[[ShardRecord, pa.Table], None],
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._commit = commit
        self._progress = progress
        self._planned = {planned.name: planned for planned in plan.variants}
        self._waiting: dict[str, deque[Shard]] = {name: deque() for name in self._planned}
        self._at_work: dict[Call, _Active] = {}
        self._failures: Counter[str] = Counter()
        # Variants whose actors died too often while they loaded, with the last reason.
        self._hopeless: dict[str, str] = {}
        self._outcome = Outcome()

    def run(self, shards: Sequence[Shard], stop: StopRequest) -> Outcome:
        """Works until no shard is left or a stop is asked for.

        Raises:
            BadInputError: a variant cannot be loaded.
            SweepFailedError: a table cannot be kept.
        """
        for shard in shards:
            self._waiting[shard.record.variant].append(shard)
        try:
            while not stop.received and self._start_actors():
                for call in self._pool.wait(self._at_work, _POLL_SECONDS):
                    self._take_in(call)
        finally:
            for active in self._at_work.values():
                self._pool.stop(active.actor)
        self._outcome.stopped = bool(self._at_work) or any(self._waiting.values())
        return self._outcome

    def _start_actors(self) -> bool:
        """Starts actors as long as they are of use and there is room; whether any is at work."""
        while (name := self._wanted()) is not None:
            active = _Active(self._pool.start(self._planned[name]), name)
            self._at_work[self._pool.call(active.actor, "load")] = active
        for name, reason in self._hopeless.items():
            if not any(active.variant == name for active in self._at_work.values()):
                self._abandon(name, reason)
        if not self._at_work and any(self._waiting.values()):
            raise SweepFailedError("shards are waiting that no device can take")
        return bool(self._at_work)

    def _wanted(self) -> str | None:
        """The variant to start an actor of; None where there is no use or no room for one."""
        at_work = self._at_work.values()
        capacity = self._plan.capacity
        if len(at_work) >= capacity.actors:
            return None
        free_gpus = capacity.gpus - sum(self._planned[a.variant].gpus for a in at_work)
        # An actor that is still loading has its first shard waiting for it.
        loading = Counter(active.variant for active in at_work if active.shard is None)
        waiting = {
            name: len(queue) - loading[name]
            for name, queue in self._waiting.items()
            if name not in self._hopeless and self._planned[name].gpus <= free_gpus
        }
        active = Counter(active.variant for active in at_work)
        return next_variant(waiting, active, self._plan.settings.replicas)

    def _take_in(self, call: Call) -> None:
        active = self._at_work[call]
        try:
            table = self._pool.result(call)
        except CannotLoadError as error:
            raise BadInputError("--variants", str(error)) from None
        except CallFailedError as error:
            self._pool.stop(active.actor)
            self._fail(active, str(error))
        else:
            if active.shard is not None:
                self._commit(active.shard.record, table)
                self._progress.finished(active.shard.record)
            self._hand_out(active)
        del self._at_work[call]

    def _hand_out(self, active: _Active) -> None:
        """Gives an actor its next shard; stops it without one."""
        queue = self._waiting[active.variant]
        if not queue:
            self._pool.stop(active.actor)
            return
        shard = queue.popleft()
        call = self._pool.call(active.actor, "evaluate", shard.payload)
        self._at_work[call] = replace(active, shard=shard)

    def _fail(self, active: _Active, reason: str) -> None:
        """Decides what becomes of what an actor failed at: its shard, or loading."""
        shard = active.shard
        if shard is None and not self._waiting[active.variant]:
            self._progress.note(f"{active.variant}: an actor that is not needed failed: {reason}")
            return
        what = shard.record.name if shard else f"{active.variant}: loading"
        self._failures[what] += 1
        again = tries_again(self._failures[what])
        self._progress.note(f"{what}: {reason}; {'trying again' if again else 'given up'}")
        if shard is None and not again:
            self._hopeless[active.variant] = reason
        elif shard is not None and again:
            self._waiting[active.variant].appendleft(shard)
        elif shard is not None:
            self._outcome.abandoned.append((shard.record, reason))

    def _abandon(self, variant: str, reason: str) -> None:
        queue = self._waiting[variant]
        self._outcome.abandoned += [(shard.record, reason) for shard in queue]
        queue.clear()
