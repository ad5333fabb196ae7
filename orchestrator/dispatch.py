"""The loop that hands out shards and takes in tables."""

import signal
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pyarrow as pa
import ray

from actors.errors import CannotLoadError
from actors.evaluator import Evaluator
from orchestrator.errors import BadInputError
from orchestrator.failures import Decision, decide
from orchestrator.plan import Plan, PlannedVariant, Shard
from orchestrator.telemetry import Progress

# How long a signal waits at most before it is acted upon.
_POLL_SECONDS = 0.5


@dataclass
class Outcome:
    """How a dispatch ended.

    Attributes:
        computed: shards whose tables were taken in.
        abandoned: shards that were given up, with the reason.
        stopped: whether a signal ended it early.
    """

    computed: int = 0
    abandoned: list[tuple[Shard, str]] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _Worker:
    handle: Any
    variant: str
    shard: Shard | None = None
    loaded: bool = False


def next_variant(
    pending: Mapping[str, int], active: Mapping[str, int], replicas: int | None
) -> str | None:
    """Which variant should get the next actor.

    The one with the most shards waiting for each actor that it has; None if no variant can use
    another. A variant never has more actors than shards, nor than `replicas`.

    Args:
        pending: shards waiting, by variant, in the order of the plan.
        active: actors at work, by variant.
        replicas: the most actors a variant may have.
    """
    candidates = [
        name
        for name, waiting in pending.items()
        if waiting > 0 and (replicas is None or active.get(name, 0) < replicas)
    ]
    return max(
        candidates,
        key=lambda name: (active.get(name, 0) == 0, pending[name] / (active.get(name, 0) + 1)),
        default=None,
    )


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag; a second signal ends the process as it always did.

    Use as a context manager, entered after `ray.init`, which replaces handlers.
    """

    def __init__(self) -> None:
        self.received = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._earlier[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = True


class Dispatcher:
    """Runs a plan's remaining shards on actors of the connected cluster.

    Args:
        plan: what to run.
        commit: takes in a finished shard's table.
        progress: is told of every shard.
    """

    def __init__(
        self, plan: Plan, commit: Callable[[Shard, pa.Table], None], progress: Progress
    ) -> None:
        self._plan = plan
        self._commit = commit
        self._progress = progress
        self._variants = {planned.variant.name: planned for planned in plan.variants}
        self._pending: dict[str, deque[Shard]] = {name: deque() for name in self._variants}
        self._in_flight: dict[Any, _Worker] = {}
        self._attempts: Counter[str] = Counter()
        self._outcome = Outcome()

    def run(self, shards: Sequence[Shard], stop: StopRequest) -> Outcome:
        """Works until no shard is left or a stop is asked for.

        Raises:
            BadInputError: a variant cannot be loaded.
        """
        for shard in shards:
            self._pending[shard.variant].append(shard)
        try:
            while self._in_flight or any(self._pending.values()):
                if stop.received:
                    self._outcome.stopped = True
                    break
                self._fill_slots()
                ready, _ = ray.wait(list(self._in_flight), timeout=_POLL_SECONDS)
                for reference in ready:
                    self._take_in(self._in_flight.pop(reference), reference)
        finally:
            # Only an explicit kill frees the devices at once.
            for worker in self._in_flight.values():
                ray.kill(worker.handle)
        return self._outcome

    def _fill_slots(self) -> None:
        while len(self._in_flight) < self._plan.slots.count:
            workers = self._in_flight.values()
            # An actor that is still loading has its first shard waiting for it.
            loading = Counter(worker.variant for worker in workers if not worker.loaded)
            name = next_variant(
                {name: len(queue) - loading[name] for name, queue in self._pending.items()},
                Counter(worker.variant for worker in workers),
                self._plan.settings.replicas,
            )
            if name is None:
                return
            worker = _Worker(handle=self._start_actor(self._variants[name]), variant=name)
            self._hand_out(worker)

    def _start_actor(self, planned: PlannedVariant) -> Any:
        slots = self._plan.slots
        remote = ray.remote(Evaluator).options(
            num_cpus=slots.threads, num_gpus=slots.gpus, max_restarts=0
        )
        return remote.remote(
            location=self._plan.inputs.model.location,
            variant=planned.variant,
            compute_dtype=planned.compute_dtype,
            device=self._plan.devices.kind,
            threads=slots.threads,
        )

    def _hand_out(self, worker: _Worker) -> None:
        """Gives a worker its next call: to load first, then a shard; retires it without one."""
        queue = self._pending[worker.variant]
        if not queue:
            ray.kill(worker.handle)
            return
        if not worker.loaded:
            # Loading is a shard of its own where its measurement is still wanted.
            worker.shard = queue.popleft() if queue[0].work.stage == "memory" else None
            self._in_flight[worker.handle.load.remote()] = worker
        else:
            worker.shard = queue.popleft()
            self._in_flight[worker.handle.evaluate.remote(worker.shard.work)] = worker

    def _take_in(self, worker: _Worker, reference: Any) -> None:
        try:
            table = ray.get(reference)
        except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as error:
            self._fail(worker, error)
            return
        worker.loaded = True
        if worker.shard is not None:
            self._commit(worker.shard, table)
            self._outcome.computed += 1
            self._progress.finished(worker.shard)
        self._hand_out(worker)

    def _fail(self, worker: _Worker, error: Exception) -> None:
        ray.kill(worker.handle)
        if isinstance(error, CannotLoadError):
            cause = getattr(error, "cause", error)
            raise BadInputError("--variants", str(cause)) from None
        reason = failure_reason(error)
        queue = self._pending[worker.variant]
        # An actor that died while it loaded is held against the shard it would have got.
        shard = worker.shard or (queue.popleft() if queue else None)
        if shard is None:
            self._progress.note(f"a spare actor of {worker.variant} failed: {reason}")
            return
        self._attempts[shard.fingerprint] += 1
        if decide(self._attempts[shard.fingerprint]) is Decision.RETRY:
            self._progress.note(f"{shard.path}: {reason}; trying again")
            self._pending[worker.variant].appendleft(shard)
            return
        self._outcome.abandoned.append((shard, reason))
        self._progress.note(f"{shard.path}: {reason}; given up")


def failure_reason(error: Exception) -> str:
    """One line that says why a shard failed."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'no further word'}"
