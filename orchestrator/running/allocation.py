"""What the policy decides on: how a dispatch stands, in the policy's terms."""

from collections.abc import Mapping

from orchestrator.contract.shards import Shard
from orchestrator.planning.plan import Plan
from orchestrator.running.durations import Costs
from orchestrator.running.failures import Failures
from orchestrator.running.policy import (
    Demand,
    Idle,
    gives_way,
    next_shard,
    next_variant,
    room_for,
    takes_another,
)
from orchestrator.running.schedule import Pile, Schedule
from orchestrator.running.workers import Worker, Workers


class Allocation:
    """Devices to variants, and shards to actors. It changes nothing by itself."""

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        workers: Workers,
        costs: Costs,
        failures: Failures,
    ) -> None:
        self._plan = plan
        self._reference = plan.inputs.reference
        self._gpus = {planned.name: planned.placement.gpus for planned in plan.variants}
        machines = plan.devices.node_gpus
        self._room = {name: room_for(gpus, machines) for name, gpus in self._gpus.items()}
        self._streamed = {p.name for p in plan.variants if p.placement.kind == "stream"}
        self._schedule = schedule
        self._workers = workers
        self._costs = costs
        self._failures = failures

    def next_start(self) -> str | None:
        """The variant to start an actor of, for which there is room; None where none is of use."""
        return self._wanted(list(self._workers))

    def giving_way(self) -> Worker | None:
        """An idle actor to stop: it has nothing to wait for, or others could use its device."""
        workers = [worker for worker in self._workers if worker.loaded and not worker.calls]
        if not workers:
            return None
        idle = [
            Idle(
                variant=worker.variant,
                waiting=self._schedule.waiting(worker.variant),
                awaiting=self._schedule.is_awaiting(worker.variant),
            )
            for worker in workers
        ]
        # Others would leave for nothing but shards that can run.
        wanted = None if self.next_start() is not None else self._wanted([])
        lacked = wanted is not None and not self._workers.of(wanted)
        place = gives_way(idle, wanted is not None, lacked, self._reference)
        return None if place is None else workers[place]

    def shard_for(self, worker: Worker, at_work_on: Shard | None) -> Shard | None:
        """The shard that an actor should get now, beside the one that it may be at."""
        loaded = [other for other in self._workers.of(worker.variant) if other.loaded]
        piles = self._schedule.ready(worker.variant)
        if at_work_on is not None:
            seconds = self._costs.of(at_work_on) if self._costs.is_known(at_work_on) else None
            if not takes_another(seconds, _count(piles), len(loaded)):
                return None
        of_each_stage = (
            next((s for s in pile.shards if not self._is_for_others(s, worker, loaded)), None)
            for pile in piles.values()
        )
        shards = [shard for shard in of_each_stage if shard is not None]
        if not shards:
            return None
        longest = list(map(self._costs.of, shards))
        return shards[next_shard(longest, self._seconds(worker.variant, piles), len(loaded))]

    def _is_for_others(self, shard: Shard, worker: Worker, loaded: list[Worker]) -> bool:
        """Whether an actor failed at a shard that another one has yet to try."""
        tried = self._failures.tried(shard.record)
        return worker.started.number in tried and any(
            other.started.number not in tried for other in loaded
        )

    def _wanted(self, workers: list[Worker]) -> str | None:
        """The variant to start an actor of, if these had their devices and nobody else.

        What cannot run yet counts only beside actors that stay.
        """
        capacity = self._plan.capacity
        if len(workers) >= capacity.actors:
            return None
        free_gpus = capacity.gpus - sum(worker.gpus for worker in workers)
        streaming = sum(worker.variant in self._streamed for worker in workers)
        is_host_full = capacity.streaming is not None and streaming >= capacity.streaming
        demands = {
            name: self._demand(name, whole=bool(workers))
            for name, room in self._room.items()
            if name not in self._failures.hopeless
            and room <= free_gpus
            and not (is_host_full and name in self._streamed)
        }
        return next_variant(demands, self._plan.settings.replicas, self._reference)

    def _demand(self, name: str, *, whole: bool) -> Demand:
        """What a variant has left; of what cannot run yet only where `whole` says so."""
        workers = self._workers.of(name)
        ready = self._schedule.ready(name)
        # While the reference is at work, what waits for it is on its way.
        comes = whole and bool(self._workers.of(self._reference))
        coming = self._schedule.blocked(name) if comes else {}
        return Demand(
            ready=_count(ready) - sum(not worker.loaded for worker in workers),
            coming=_count(coming),
            seconds=self._seconds(name, ready) + self._seconds(name, coming),
            actors=len(workers),
            loading_seconds=self._costs.of_loading(name),
            is_loaded=any(worker.loaded for worker in workers),
        )

    def seconds_left(self) -> float | None:
        """What all that is left of this look will take; None where nothing like it is done yet."""
        seconds = 0.0
        for name in self._gpus.keys() - self._failures.hopeless.keys():
            left = self._schedule.tokens_left(name)
            if not all(map(self._costs.has_done, left)):
                return None
            seconds += sum(self._costs.rate(name, stage) * count for stage, count in left.items())
            if left and not self._workers.of(name):
                seconds += self._costs.of_loading(name)
        return seconds / min(self._plan.capacity.actors, max(1, len(self._workers)))

    def _seconds(self, variant: str, piles: Mapping[str, Pile]) -> float:
        """What waiting shards of a variant will take."""
        return sum(self._costs.rate(variant, stage) * pile.tokens for stage, pile in piles.items())


def _count(piles: Mapping[str, Pile]) -> int:
    return sum(len(pile.shards) for pile in piles.values())
