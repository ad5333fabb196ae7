"""The actors of a dispatch: which variant each is at, and those that have none at the moment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.running.ahead import Prepared
from orchestrator.running.log import Log
from orchestrator.running.pool import Actor, Call, Pool
from orchestrator.storage.events import Event, EventKind, moment


@dataclass(frozen=True, eq=False)
class StartedActor:
    """An actor that was asked for, whatever variant it is at.

    Attributes:
        gpus: how many it has.
        place: the lowest that no other has had since it was asked for, from 0.
        asked: when that was, in seconds since the epoch.
    """

    actor: Actor
    gpus: int
    number: int
    place: int
    asked: float


@dataclass(eq=False)
class Worker:
    """An actor at a variant, and its calls in flight, the oldest first.

    Attributes:
        faults: the shards that it failed at since it last did one.
    """

    started: StartedActor
    variant: str
    loaded: bool = False
    calls: list[Call[Any]] = field(default_factory=list)
    faults: int = 0

    @property
    def actor(self) -> Actor:
        """What the pool knows it by."""
        return self.started.actor

    @property
    def gpus(self) -> int:
        """How many it has."""
        return self.started.gpus

    @property
    def where(self) -> dict[str, int]:
        """Which actor it is, and its device, as events have it."""
        return {"actor": self.started.number, "place": self.started.place}

    def event(self, kind: EventKind, **more: Any) -> Event:
        """Something that happened to it."""
        return Event(event=kind, variant=self.variant, **self.where, **more)


class Workers:
    """Starts actors and stops them; one that its variant has left goes to the next, if there is.

    An actor that has its libraries imported and its device ready saves the next variant more than
    loading many a model takes.

    Args:
        pool: where actors live.
        log: takes in what happens.
        prepared: actors that were asked for beforehand. Those that load a variant are at it.
    """

    def __init__(self, pool: Pool, log: Log, prepared: Sequence[Prepared] = ()) -> None:
        self._pool = pool
        self._log = log
        self._at_work: list[Worker] = []
        self._left: list[StartedActor] = []
        self._numbers = 0
        for one in prepared:
            started = self._started(one.actor, one.gpus, one.asked)
            if one.variant is None:
                self._left.append(started)
            else:
                self._at_work.append(Worker(started, one.variant))
        for worker in self._at_work:
            self._log_start(worker)

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._at_work))

    def __len__(self) -> int:
        return len(self._at_work)

    def of(self, variant: str) -> list[Worker]:
        """The workers that are at a variant."""
        return [worker for worker in self._at_work if worker.variant == variant]

    def start(self, variant: str, gpus: int) -> Worker:
        """An actor for a variant, which has yet to load it: one that is left over, or a new one."""
        started = next((each for each in self._left if each.gpus == gpus), None)
        if started is None:
            # What has other GPUs than are needed would stand in the way of who has them.
            self.stop_idle()
            started = self._started(self._pool.start(gpus), gpus, self._log.now())
        else:
            self._left.remove(started)
        worker = Worker(started, variant)
        self._at_work.append(worker)
        self._log_start(worker)
        return worker

    def leave(self, worker: Worker) -> None:
        """Takes an idle actor from its variant; the actor stays until `stop_idle`."""
        self._forget(worker)
        self._left.append(worker.started)

    def stop(self, worker: Worker) -> None:
        """Ends an actor, whatever it does."""
        self._forget(worker)
        self._pool.stop(worker.actor)

    def stop_idle(self) -> None:
        """Ends the actors that no variant has taken."""
        while self._left:
            self._pool.stop(self._left.pop().actor)

    def _started(self, actor: Actor, gpus: int, asked: float) -> StartedActor:
        taken = {started.place for started in self._left}
        taken |= {worker.started.place for worker in self._at_work}
        place = next(place for place in range(len(taken) + 1) if place not in taken)
        self._numbers += 1
        return StartedActor(actor, gpus, self._numbers, place, asked)

    def _log_start(self, worker: Worker) -> None:
        self._log(worker.event("actor_started", began=moment(worker.started.asked)))

    def _forget(self, worker: Worker) -> None:
        self._at_work.remove(worker)
        self._log(worker.event("actor_stopped"))
