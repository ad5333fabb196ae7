"""The loop that hands out shards and takes in tables, on whatever pool the actors live."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa

from orchestrator.contract.exchange import Computed, Loaded, Reference
from orchestrator.contract.shards import Payload, Shard, ShardRecord
from orchestrator.contract.stages import ComparedPayload
from orchestrator.contract.variant_errors import VariantError, files_problem
from orchestrator.errors import BadInputError, SweepFailedError
from orchestrator.planning.plan import Plan
from orchestrator.running.ahead import Prepared
from orchestrator.running.allocation import Allocation
from orchestrator.running.durations import Costs
from orchestrator.running.failures import Failures
from orchestrator.running.gauges import Standing
from orchestrator.running.jobs import Job, Outcome, times_of
from orchestrator.running.log import Log
from orchestrator.running.model_files import SeenFiles
from orchestrator.running.policy import FailureKind, is_trusted
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
from orchestrator.running.watch import Watch
from orchestrator.running.workers import Worker, Workers
from orchestrator.storage.events import Event, moment

# How long a stop waits at most before it is acted upon.
_POLL_SECONDS = 0.5

# Of the store: values are there twice while they move from node to node.
_SHARE_OF_STORE = 0.5


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
        prepared: actors that were asked for beforehand.
        decides: whether a look at the text, all of whose windows are there, is the last.
        observe: is shown how it stands, again and again.
        clock: seconds, for deadlines.
    """

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        commit: Callable[[ShardRecord, pa.Table], None],
        read: Callable[[ShardRecord], pa.Table],
        log: Log,
        progress: Progress,
        prepared: Sequence[Prepared] = (),
        decides: Callable[[int], bool] = lambda _: False,
        observe: Callable[[Standing], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._commit = commit
        self._read = read
        self._log = log
        self._progress = progress
        self._decides = decides
        self._observe = observe
        self._reference = plan.inputs.reference
        self._planned = {planned.name: planned for planned in plan.variants}
        self._costs = Costs({planned.name: planned.variant.kind for planned in plan.variants})
        self._workers = Workers(pool, log, prepared)
        self._jobs: dict[Call[Any], Job] = {}
        begun = [(one.loading, one.asked) for one in prepared if one.loading is not None]
        for worker, (loading, asked) in zip(self._workers, begun, strict=True):
            self._note_call(loading, Job(worker, asked))
            progress.loading(worker.variant)
        # What candidates must know of the reference beside its states.
        self._description: Kept[Reference] | None = None
        self._failures = Failures(progress.note)
        self._seen_files = SeenFiles(plan)
        self._watch = Watch(plan, self._costs, clock)
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
        self._allocation = Allocation(
            self._plan, self._schedule, self._workers, self._costs, self._failures
        )
        standing = Standing(
            self._plan,
            self._schedule,
            self._allocation,
            self._workers,
            self._jobs,
            self._costs,
            self._failures,
            self._outcome,
        )
        try:
            while not stop.received and self._assign():
                self._observe(standing)
                for call in self._pool.wait(self._jobs, _POLL_SECONDS):
                    # The actor of a call may have been stopped for the sake of another.
                    if call in self._jobs:
                        self._take_in(call)
                self._see_to_late_calls()
        finally:
            for worker in self._workers:
                self._stop(worker)
            self._workers.stop_idle()
            self._observe(standing)
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

    def _look_on(self) -> None:
        """Takes the next look at the text where the open one is over, unless it decides."""
        schedule = self._schedule
        while schedule.looks.has_later and schedule.looks.is_over:
            if schedule.looks.is_whole and self._decides(schedule.looks.open):
                schedule.drop_later_looks()
            else:
                schedule.open_next_look()

    def _give_work(self) -> None:
        self._look_on()
        for depth in range(CALLS_IN_FLIGHT):
            for worker in self._workers:
                if worker.loaded and len(worker.calls) == depth:
                    self._hand_out(worker)
        while (idle := self._allocation.giving_way()) is not None:
            self._workers.leave(idle)
        while (name := self._allocation.next_start()) is not None:
            self._start(name)
        self._workers.stop_idle()

    def _abandon_what_has_no_hope(self) -> bool:
        """Gives up what no actor can be had for, or what needs such; whether there was any."""
        at_work = {worker.variant for worker in self._workers}
        lost = self._schedule.without_hope(self._failures.hopeless.keys() - at_work)
        for shard in lost:
            self._abandon(shard, self._failures.why_hopeless(shard.record))
        return bool(lost)

    def _start(self, variant: str) -> None:
        """Has an actor load a variant."""
        planned = self._planned[variant]
        worker = self._workers.start(variant, planned.placement.gpus)
        assignment = planned.assignment(self._plan.capacity.threads)
        describe = (
            variant == self._reference and self._description is None and self._schedule.needs_states
        )
        call = worker.actor.load(assignment, describe)
        self._note_call(call, Job(worker, self._log.now()))
        self._progress.loading(variant)

    def _stop(self, worker: Worker) -> None:
        """Stops an actor; what it was at waits again."""
        for call in worker.calls:
            shard = self._jobs.pop(call).shard
            if shard is not None:
                self._schedule.again(shard)
        self._workers.stop(worker)

    def _hand_out(self, worker: Worker) -> None:
        """Gives an actor its next shard, if there is one that can run."""
        at_work_on = self._jobs[worker.calls[0]].shard if worker.calls else None
        shard = self._allocation.shard_for(worker, at_work_on)
        if shard is None:
            return
        self._schedule.take(shard)
        payload, sent = self._payload_of(shard), self._log.now()
        makes, against = None, self._schedule.states_for(shard)
        if against is not None:
            # Where there are states, the reference has been described.
            assert self._description is not None and isinstance(payload, ComparedPayload)
            call = worker.actor.compare(payload, against.kept, self._description)
        elif self._schedule.makes_states(shard):
            assert isinstance(payload, ComparedPayload)
            call, makes = worker.actor.evaluate_and_keep(payload)
        else:
            call = worker.actor.evaluate(payload)
        self._note_call(call, Job(worker, sent, shard, makes, against))

    def _payload_of(self, shard: Shard) -> Payload:
        """A shard's payload, with what it takes from the tables that it reads."""
        sources = (self._schedule.shard_of(source).record for source in shard.record.reads)
        return shard.payload.completed([self._read(source) for source in sources])

    def _note_call(self, call: Call[Any], job: Job) -> None:
        self._jobs[call] = job
        job.worker.calls.append(call)

    def _take_in(self, call: Call[Any]) -> None:
        job = self._jobs[call]
        try:
            result = self._pool.result(call)
        except VariantError as error:
            self._refuse(job.worker, str(error))
        except CallFailedError as error:
            self._fail(call, error)
        except ValueLostError as error:
            if job.shard is None:
                self._fail(call, CallFailedError(str(error), "node"))
            else:
                self._forget(call)
                self._lose(job, job.shard, str(error))
        else:
            self._forget(call)
            if job.shard is None:
                self._loaded(job, result)
            else:
                self._finished(job, job.shard, result)

    def _see_to_late_calls(self) -> None:
        """Tells of actors that take long at something, and ends those that take too long."""
        for late in list(self._watch.late(self._workers, self._jobs)):
            if late.is_over:
                self._fail(late.call, CallFailedError(late.problem, "timeout"))
            else:
                self._progress.note(f"{self._jobs[late.call].name}: {late.problem}")

    def _forget(self, call: Call[Any]) -> None:
        self._jobs.pop(call).worker.calls.remove(call)

    def _loaded(self, job: Job, loaded: Loaded | None) -> None:
        worker = job.worker
        if loaded is None:
            # An earlier model's memory is not free: another process takes its place.
            self._stop(worker)
            return
        if (problem := self._seen_files.problem(loaded)) is not None:
            self._refuse(worker, files_problem(worker.variant, problem))
            return
        worker.loaded = True
        self._costs.learn_loading(worker.variant, loaded.span.seconds)
        self._log(worker.event("actor_prepared", **times_of(loaded.prepared)))
        self._log(worker.event("actor_loaded", **job.times(loaded.span)))
        if worker.variant == self._reference:
            self._schedule.expect(loaded.state_bytes)
        if loaded.reference is not None and self._description is None:
            self._description = self._pool.keep(loaded.reference)

    def _finished(self, job: Job, shard: Shard, computed: Computed) -> None:
        record = shard.record
        # Run again for its states alone, a shard is not written twice.
        if not self._schedule.is_finished(shard):
            self._commit(record, computed.table)
        states = None
        if job.makes is not None:
            states = States(job.makes, self._schedule.cost(shard))
        job.worker.faults = 0
        self._costs.learn(shard, computed.span.seconds)
        self._log(
            Event.of_shard(
                "shard_computed",
                record,
                states_bytes=states.bytes if states else None,
                **job.worker.where,
                **job.times(computed.span),
            )
        )
        is_new = not self._schedule.is_finished(shard)
        self._schedule.finish(shard, states)
        if is_new:
            left = self._allocation.seconds_left()
            self._progress.finished(record, computed.span.seconds, left)

    def _lose(self, job: Job, shard: Shard, reason: str) -> None:
        """What a shard was held against, or its own table, is gone; made again, a few times."""
        if job.against is None:
            self._try_again(job, shard, reason, "node")
            return
        self._log(Event.of_shard("states_lost", shard.record, reason=reason, **job.worker.where))
        self._schedule.again(shard)
        maker = self._schedule.lose(shard, job.against)
        if maker is not None:
            self._try_again(job, maker, f"its states are lost: {reason}", "node")

    def _fail(self, call: Call[Any], error: CallFailedError) -> None:
        """Decides what becomes of what an actor failed at: its shard, or loading; and of it."""
        worker = self._jobs[call].worker
        if error.actor_died:
            call = worker.calls[0]
        job = self._jobs[call]
        if job.shard is None:
            self._fail_to_load(worker, str(error), error.kind)
            return
        self._forget(call)
        worker.faults += 1
        self._failures.note_actor(job.shard.record, worker.started.number)
        self._try_again(job, job.shard, str(error), error.kind)
        # Loading a model takes longer than many a shard: an actor that lives gets another one.
        if error.actor_died or error.kind == "timeout" or not is_trusted(worker.faults):
            self._stop(worker)

    def _fail_to_load(self, worker: Worker, reason: str, kind: FailureKind) -> None:
        self._stop(worker)
        self._log(worker.event("failed", reason=reason))
        if self._schedule.waiting(worker.variant):
            self._failures.of_loading(worker.variant, reason, kind)
        else:
            self._progress.note(f"{worker.variant}: an actor that is not needed failed: {reason}")

    def _refuse(self, worker: Worker, reason: str) -> None:
        """A variant cannot be used, however often it is tried: the others go on without it."""
        if worker.variant == self._reference:
            raise BadInputError("--variants", reason)
        self._log(worker.event("failed", reason=reason))
        self._failures.refuse(worker.variant, reason)
        self._stop(worker)

    def _try_again(self, job: Job, shard: Shard, reason: str, kind: FailureKind) -> None:
        """Has a shard wait again that a job failed at, or gives it up."""
        record = shard.record
        sent = moment(job.sent)
        self._log(Event.of_shard("failed", record, reason=reason, sent=sent, **job.worker.where))
        if self._failures.count(record.name, reason, kind):
            self._schedule.again(shard)
        else:
            self._abandon(shard, reason)

    def _abandon(self, shard: Shard, reason: str) -> None:
        self._schedule.give_up(shard)
        self._failures.give_up(shard.record, reason)
        # One that ran for its states alone has its table.
        if not self._schedule.is_finished(shard):
            self._log(Event.of_shard("given_up", shard.record, reason=reason))
            self._outcome.abandoned.append((shard.record, reason))
