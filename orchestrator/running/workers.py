"""The actors of a dispatch: which variant each is at, and those that have none at the moment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from orchestrator.events import Event
from orchestrator.running.pool import Actor, Call, Pool


@dataclass(eq=False)
class Worker:
    """An actor with its GPUs, and its calls in flight, the oldest first."""

    actor: Actor
    gpus: int
    variant: str
    loaded: bool = False
    calls: list[Call] = field(default_factory=list)


class Workers:
    """Starts actors and stops them; one that its variant has left goes to the next, if there is.

    A process that has its libraries imported and its device ready saves the next variant more than
    loading many a model takes.

    Args:
        pool: where actors live.
        log: takes in what happens.
    """

    def __init__(self, pool: Pool, log: Callable[[Event], None]) -> None:
        self._pool = pool
        self._log = log
        self._at_work: list[Worker] = []
        # Whose processes are there still.
        self._left: list[Worker] = []

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._at_work))

    def __len__(self) -> int:
        return len(self._at_work)

    def start(self, variant: str, gpus: int) -> Worker:
        """An actor for a variant, which has yet to load it: one that is left over, or a new one."""
        left = next((worker for worker in self._left if worker.gpus == gpus), None)
        if left is None:
            actor = self._pool.start(gpus)
        else:
            self._left.remove(left)
            actor = left.actor
        worker = Worker(actor, gpus, variant)
        self._at_work.append(worker)
        self._log(Event(event="actor_started", variant=variant))
        return worker

    def leave(self, worker: Worker) -> None:
        """Takes an idle actor from its variant; its process stays until `stop_idle`."""
        self._forget(worker)
        self._left.append(worker)

    def stop(self, worker: Worker) -> None:
        """Ends an actor, whatever it does."""
        self._forget(worker)
        self._pool.stop(worker.actor)

    def stop_idle(self) -> None:
        """Ends the processes that no variant has taken."""
        while self._left:
            self._pool.stop(self._left.pop().actor)

    def _forget(self, worker: Worker) -> None:
        self._at_work.remove(worker)
        self._log(Event(event="actor_stopped", variant=worker.variant))
