"""A cluster that is no more than this process: for notebooks, for debugging, and where Ray is not.

One actor works at a time, in the thread that waits for it.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from orchestrator.console import quiet_libraries
from orchestrator.contract.exchange import Computed, Loaded, Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, Payload, Placement
from orchestrator.contract.stages import ComparedPayload
from orchestrator.contract.variant_errors import NoMemoryError, VariantError, first_line
from orchestrator.planning.devices import Devices, local_devices
from orchestrator.running.metrics import Figure
from orchestrator.running.nodes import NOTHING, Needs
from orchestrator.running.policy import FailureKind
from orchestrator.running.pool import Actor, Call, CallFailedError, Kept, ValueLostError
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from actors.actor import ModelActor

T = TypeVar("T")

# Of the machine's free memory: what is kept lies beside the models.
_SHARE_OF_MEMORY = 0.25


class InProcessActor:
    """An `Actor` that works once somebody asks for the result.

    Attributes:
        actor: what works; None once it was stopped, so that its model's memory is free.
    """

    def __init__(self, pool: "InProcessPool", actor: "ModelActor") -> None:
        self.actor: ModelActor | None = actor
        self._pool = pool

    def prepare(self, placement: Placement) -> Call[None]:
        """Has it import what loading needs, and wake its device."""
        return self._later(lambda actor: actor.prepare(placement))

    def load(self, assignment: Assignment, describe: bool) -> Call[Loaded | None]:
        """Has it load a model."""
        return self._later(lambda actor: actor.load(assignment, describe))

    def evaluate(self, payload: Payload) -> Call[Computed]:
        """Has it work on a shard."""
        return self._later(lambda actor: actor.evaluate(payload))

    def evaluate_and_keep(
        self, payload: ComparedPayload
    ) -> tuple[Call[Computed], Kept[ReferenceStates]]:
        """Has it work on a shard; the states are there once the result is."""
        kept: Kept[ReferenceStates] = self._pool.room()
        left = kept.handle

        def work(actor: "ModelActor") -> Computed:
            made, states = actor.evaluate_and_keep(payload)
            left.append(states)
            return made

        return self._later(work), kept

    def compare(
        self, payload: ComparedPayload, states: Kept[ReferenceStates], reference: Kept[Reference]
    ) -> Call[Computed]:
        """Has it work on a shard, held against the reference."""
        (made,), (described,) = states.handle, reference.handle
        return self._later(lambda actor: actor.compare(payload, made, described))

    def _later(self, work: "Callable[[ModelActor], T]") -> Call[T]:
        if self.actor is None:
            raise RuntimeError("a stopped actor was called")
        return self._pool.later(self, partial(work, self.actor))


class InProcessPool:
    """A `Pool` whose actors are objects of this process.

    Args:
        make_actor: makes one.
    """

    def __init__(self, make_actor: "Callable[[], ModelActor]") -> None:
        self._make_actor = make_actor
        # By call, in order: whose it is, and what is to be done.
        self._work: dict[Hashable, tuple[InProcessActor, Callable[[], Any]]] = {}
        self._numbers = count()

    @property
    def store_bytes(self) -> int:
        """A part of the memory that is free now."""
        return int(_SHARE_OF_MEMORY * psutil.virtual_memory().available)

    def start(self, gpus: int) -> InProcessActor:
        """Makes an actor, which sees whatever GPUs this process sees."""
        return InProcessActor(self, self._make_actor())

    def later(self, actor: InProcessActor, work: Callable[[], T]) -> Call[T]:
        """Notes what an actor is to do when the result is asked for."""
        number = next(self._numbers)
        self._work[number] = (actor, work)
        return Call(number)

    def room(self) -> Kept[Any]:
        """Room for a value that is not there yet: a list, which will hold it alone."""
        return Kept([])

    def keep(self, value: T) -> Kept[T]:
        """Keeps a value."""
        kept: Kept[T] = self.room()
        kept.handle.append(value)
        return kept

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        """The oldest call: it works when its result is asked for."""
        return [next(Call(number) for number in self._work if Call(number) in calls)]

    def result(self, call: Call[T]) -> T:
        """Has its actor work; raises as `Pool.result` says."""
        _, work = self._work.pop(call.name)
        try:
            found: T = work()
        except (VariantError, ValueLostError, CallFailedError):
            raise
        except Exception as error:
            kind: FailureKind = "memory" if isinstance(error, NoMemoryError) else "error"
            raise CallFailedError(f"{type(error).__name__}: {first_line(error)}", kind) from None
        return found

    def show(self, figures: Sequence[Figure]) -> None:
        """Nobody watches a process from outside."""

    def stop(self, actor: Actor) -> None:
        """Lets go of an actor and its model, and of all that it was to do and to be given."""
        assert isinstance(actor, InProcessActor)
        actor.actor = None
        self._work = {call: each for call, each in self._work.items() if each[0] is not actor}


class InProcessCluster:
    """A `Cluster` of this process: one actor, so that models take turns."""

    def known_devices(self, settings: Settings) -> Devices:
        """This machine's devices, as far as one actor uses them."""
        return one_at_a_time(local_devices(settings.device))

    @contextmanager
    def connected(self, settings: Settings, needs: Needs = NOTHING) -> Iterator[Devices]:
        """There is nothing to start; the libraries' own messages are for `--verbose`."""
        with nullcontext() if settings.verbose else quiet_libraries():
            yield self.known_devices(settings)

    def pool(self, threads: int, name: str) -> InProcessPool:
        """Actors of this process, whatever threads it has."""
        # Imported here: what plans and reads runs knows no actor.
        from actors.actor import ModelActor

        return InProcessPool(ModelActor)


def one_at_a_time(devices: Devices) -> Devices:
    """Devices of which one actor uses what it needs."""
    return replace(devices, most_actors=1)
