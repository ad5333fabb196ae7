"""The loop that hands out shards and takes in tables, on whatever pool the actors live."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.answers import answers_in
from orchestrator.contract.errors import VariantError
from orchestrator.contract.exchange import Loaded
from orchestrator.contract.shards import Payload, Shard, ShardRecord, TeacherForcedPayload
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.events import Event
from orchestrator.plan import Plan
from orchestrator.running.policy import Idle, gives_way, next_variant, tries_again
from orchestrator.running.pool import (
    CALLS_IN_FLIGHT,
    Call,
    CallFailedError,
    Kept,
    Pool,
    ValueLostError,
)
from orchestrator.running.progress import Progress
from orchestrator.running.schedule import Schedule, States
from orchestrator.running.stop import StopRequest
from orchestrator.running.workers import Worker, Workers

# How long a stop waits at most before it is acted upon.
_POLL_SECONDS = 0.5

# Of the store: values are there twice while they move from node to node.
_SHARE_OF_STORE = 0.5


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
class _Job:
    """A call in flight: of a shard or, without one, to load the model.

    Attributes:
        makes: what it leaves behind for others.
        against: what it is held against.
    """

    worker: Worker
    shard: Shard | None = None
    makes: Kept | None = None
    against: States | None = None


class Dispatcher:
    """Runs a plan's unfinished shards, each once it can run.

    An actor loads a model, then gets one shard after another. When none is left for it, or it has
    to wait and others could use its device, it loads another variant, or is stopped. What failed
    goes to another actor, a few times.

    Args:
        plan: what to run.
        pool: where actors live.
        commit: takes in a finished shard's table.
        read: gives a finished shard's table back.
        log: takes in what happens.
        progress: is told of every shard.
    """

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        commit: Callable[[ShardRecord, pa.Table], None],
        read: Callable[[ShardRecord], pa.Table],
        log: Callable[[Event], None],
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._commit = commit
        self._read = read
        self._log = log
        self._progress = progress
        self._reference = plan.inputs.reference
        self._planned = {planned.name: planned for planned in plan.variants}
        self._workers = Workers(pool, log)
        self._jobs: dict[Call, _Job] = {}
        # What candidates must know of the reference beside its states.
        self._description: Kept | None = None
        self._failures: Counter[str] = Counter()
        # Variants that cannot be used, or whose actors died too often while they loaded: why.
        self._hopeless: dict[str, str] = {}
        # Why shards were given up, by fingerprint.
        self._given_up: dict[str, str] = {}
        self._outcome = Outcome()

    def run(self, finished: AbstractSet[str], stop: StopRequest) -> Outcome:
        """Works until no shard is left or a stop is asked for.

        Args:
            finished: fingerprints of the shards whose tables there are.

        Raises:
            BadInputError: the reference cannot be loaded.
            SweepFailedError: a table cannot be kept.
        """
        limit = self._plan.settings.reference_bytes or int(_SHARE_OF_STORE * self._pool.store_bytes)
        self._schedule = Schedule(self._plan.shards, finished, limit)
        try:
            while not stop.received and self._assign():
                for call in self._pool.wait(self._jobs, _POLL_SECONDS):
                    # The actor of a call may have been stopped for the sake of another.
                    if call in self._jobs:
                        self._take_in(call)
        finally:
            for worker in self._workers:
                self._stop(worker)
            self._workers.stop_idle()
        self._outcome.stopped = not self._schedule.is_settled
        return self._outcome

    def _assign(self) -> bool:
        """Gives work to actors and devices to variants; whether anything is at work."""
        self._give_work()
        # What is given up may set others free.
        while self._abandon_what_has_no_hope():
            self._give_work()
        if not self._jobs and not self._schedule.is_settled:
            raise SweepFailedError("shards are waiting that no device can take")
        return bool(self._jobs)

    def _give_work(self) -> None:
        for depth in range(CALLS_IN_FLIGHT):
            for worker in self._workers:
                if worker.loaded and len(worker.calls) == depth:
                    self._hand_out(worker)
        while (idle := self._giving_way()) is not None:
            self._workers.leave(idle)
        while (name := self._wanted(fitting=True)) is not None:
            self._start(name)
        self._workers.stop_idle()

    def _abandon_what_has_no_hope(self) -> bool:
        """Gives up what no actor can be had for, or what needs such; whether there was any."""
        at_work = {worker.variant for worker in self._workers}
        lost = self._schedule.without_hope(self._hopeless.keys() - at_work)
        for shard in lost:
            record = shard.record
            sources = (self._given_up.get(source or "") for source in (record.needs, record.reads))
            reason = next(filter(None, sources), None) or self._hopeless[record.variant]
            self._abandon(shard, reason)
        return bool(lost)

    def _wanted(self, *, fitting: bool) -> str | None:
        """The variant to start an actor of; None where it would be of no use.

        Args:
            fitting: whether there must be room for it now, or only once others have left.
        """
        capacity = self._plan.capacity
        workers = list(self._workers) if fitting else []
        if len(workers) >= capacity.actors:
            return None
        free_gpus = capacity.gpus - sum(self._planned[w.variant].gpus for w in workers)
        # An actor that is still loading has its first shard waiting for it.
        loading = Counter(worker.variant for worker in self._workers if not worker.loaded)
        ready = {
            name: self._schedule.ready(name) - loading[name]
            for name in self._planned
            if name not in self._hopeless and self._planned[name].gpus <= free_gpus
        }
        active = Counter(worker.variant for worker in self._workers)
        return next_variant(ready, active, self._plan.settings.replicas, self._reference)

    def _giving_way(self) -> Worker | None:
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
        fits = self._wanted(fitting=True) is not None
        place = gives_way(
            idle, not fits and self._wanted(fitting=False) is not None, self._reference
        )
        return None if place is None else workers[place]

    def _start(self, variant: str) -> None:
        """Has an actor load a variant."""
        planned = self._planned[variant]
        worker = self._workers.start(variant, planned.gpus)
        assignment = planned.assignment(self._plan.devices.kind, self._plan.capacity.threads)
        describe = (
            variant == self._reference and self._description is None and self._schedule.needs_states
        )
        call = self._pool.call(worker.actor, "load", assignment, describe)
        self._note_call(call, _Job(worker))

    def _stop(self, worker: Worker) -> None:
        """Stops an actor; what it was at waits again."""
        for call in worker.calls:
            shard = self._jobs.pop(call).shard
            if shard is not None:
                self._schedule.again(shard)
        self._workers.stop(worker)

    def _hand_out(self, worker: Worker) -> None:
        """Gives an actor its next shard, if there is one that can run."""
        shard = self._schedule.take(worker.variant)
        if shard is None:
            return
        payload = self._payload_of(shard)
        against = self._schedule.states_for(shard)
        if against is not None:
            arguments = (payload, against.handle, self._description)
            call = self._pool.call(worker.actor, "compare", *arguments)
            self._note_call(call, _Job(worker, shard, against=against))
        elif self._schedule.makes_states(shard):
            call, makes = self._pool.call_and_keep(worker.actor, "evaluate_and_keep", payload)
            self._note_call(call, _Job(worker, shard, makes=makes))
        else:
            call = self._pool.call(worker.actor, "evaluate", payload)
            self._note_call(call, _Job(worker, shard))

    def _payload_of(self, shard: Shard) -> Payload:
        """A shard's payload, complete: with the answers that it scores."""
        if not isinstance(shard.payload, TeacherForcedPayload):
            return shard.payload
        table = self._read(self._schedule.shard_of(str(shard.record.reads)).record)
        return shard.payload.with_answers(answers_in(table))

    def _note_call(self, call: Call, job: _Job) -> None:
        self._jobs[call] = job
        job.worker.calls.append(call)

    def _take_in(self, call: Call) -> None:
        job = self._jobs[call]
        try:
            result = self._pool.result(call)
        except VariantError as error:
            self._refuse(job.worker, str(error))
        except CallFailedError as error:
            self._fail(call, error)
        except ValueLostError as error:
            if job.shard is None:
                self._fail(call, CallFailedError(str(error)))
            else:
                self._forget(call)
                self._lose(job, job.shard, str(error))
        else:
            self._forget(call)
            if job.shard is None:
                self._loaded(job.worker, result)
            else:
                self._finished(job, job.shard, result)

    def _forget(self, call: Call) -> None:
        self._jobs.pop(call).worker.calls.remove(call)

    def _loaded(self, worker: Worker, loaded: Loaded | None) -> None:
        if loaded is None:
            # An earlier model's memory is not free: another process takes its place.
            self._stop(worker)
            return
        worker.loaded = True
        self._log(Event(event="actor_loaded", variant=worker.variant))
        if worker.variant == self._reference:
            self._schedule.expect(loaded.state_bytes)
        if loaded.reference is not None and self._description is None:
            self._description = self._pool.keep(loaded.reference)

    def _finished(self, job: _Job, shard: Shard, table: Any) -> None:
        record = shard.record
        # Run again for its states alone, a shard is not written twice.
        if not self._schedule.is_finished(shard):
            self._commit(record, table)
            self._progress.finished(record)
        states = None
        if job.makes is not None:
            states = States(job.makes, self._schedule.cost(shard))
        states_bytes = states.bytes if states else None
        self._log(Event.of_shard("shard_computed", record, states_bytes=states_bytes))
        self._schedule.finish(shard, states)

    def _lose(self, job: _Job, shard: Shard, reason: str) -> None:
        """What a shard was held against, or its own table, is gone; made again, a few times."""
        if job.against is None:
            self._try_again(shard, reason)
            return
        self._log(Event.of_shard("states_lost", shard.record, reason=reason))
        self._schedule.again(shard)
        maker = self._schedule.lose(shard, job.against)
        if maker is not None:
            self._try_again(maker, f"its states are lost: {reason}")

    def _fail(self, call: Call, error: CallFailedError) -> None:
        """Decides what becomes of what an actor failed at: its shard, or loading."""
        worker = self._jobs[call].worker
        if error.actor_died:
            call = worker.calls[0]
        shard = self._jobs[call].shard
        if shard is not None:
            self._forget(call)
        self._stop(worker)
        if shard is not None:
            self._try_again(shard, str(error))
            return
        self._log(Event(event="failed", variant=worker.variant, reason=str(error)))
        if not self._schedule.waiting(worker.variant):
            self._progress.note(f"{worker.variant}: an actor that is not needed failed: {error}")
        elif not self._count_failure(f"{worker.variant}: loading", str(error)):
            self._hopeless[worker.variant] = str(error)

    def _refuse(self, worker: Worker, reason: str) -> None:
        """A variant cannot be used, however often it is tried: the others go on without it."""
        if worker.variant == self._reference:
            raise BadInputError("--variants", reason)
        self._log(Event(event="failed", variant=worker.variant, reason=reason))
        self._progress.note(f"{reason}; given up")
        self._hopeless[worker.variant] = reason
        self._stop(worker)

    def _try_again(self, shard: Shard, reason: str) -> None:
        record = shard.record
        self._log(Event.of_shard("failed", record, reason=reason))
        if self._count_failure(record.name, reason):
            self._schedule.again(shard)
        else:
            self._abandon(shard, reason)

    def _count_failure(self, what: str, reason: str) -> bool:
        """Counts and tells a failure; whether to try again."""
        self._failures[what] += 1
        again = tries_again(self._failures[what])
        self._progress.note(f"{what}: {reason}; {'trying again' if again else 'given up'}")
        return again

    def _abandon(self, shard: Shard, reason: str) -> None:
        self._schedule.give_up(shard)
        self._given_up[shard.record.fingerprint] = reason
        # One that ran for its states alone has its table.
        if not self._schedule.is_finished(shard):
            self._log(Event.of_shard("given_up", shard.record, reason=reason))
            self._outcome.abandoned.append((shard.record, reason))
