"""Where actors live, as the dispatcher sees it."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from orchestrator.contract.exchange import Computed, Loaded, Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, Payload, Placement
from orchestrator.contract.stages import ComparedPayload
from orchestrator.running.metrics import Figure
from orchestrator.running.policy import FailureKind

T = TypeVar("T")

# Of an actor: one works while the result of another travels.
CALLS_IN_FLIGHT = 2


@dataclass(frozen=True)
class Call(Generic[T]):
    """What an actor was asked to do, of which `Pool.result` gives the result.

    Attributes:
        name: what its pool knows it by.
    """

    name: Hashable


@dataclass(frozen=True, eq=False)
class Kept(Generic[T]):
    """A value that a pool keeps for calls; it lives as long as somebody holds this.

    Attributes:
        handle: what its pool knows it by.
    """

    handle: Any


class CallFailedError(Exception):
    """A call ended without a result; the message is one line. Its actor may not be used again.

    Attributes:
        kind: in which way.
    """

    def __init__(self, message: str, kind: FailureKind = "error") -> None:
        super().__init__(message)
        self.kind: FailureKind = kind

    @property
    def actor_died(self) -> bool:
        """Whether its process is gone: any other of its calls may be to blame."""
        return self.kind in ("death", "node")


class ValueLostError(Exception):
    """What a call was to be given, or what it returned, is gone; its actor may be well."""


class Actor(Protocol):
    """An `actors.actor.ModelActor` from afar: whatever it is asked to do, that returns at once."""

    def prepare(self, placement: Placement) -> Call[None]:
        """Has it import what loading needs, and wake its device."""
        ...

    def load(self, assignment: Assignment, describe: bool) -> Call[Loaded | None]:
        """Has it load a model; None where it still holds what an earlier one took."""
        ...

    def evaluate(self, payload: Payload) -> Call[Computed]:
        """Has it work on a shard."""
        ...

    def evaluate_and_keep(
        self, payload: ComparedPayload
    ) -> tuple[Call[Computed], Kept[ReferenceStates]]:
        """Has it work on a shard, whose states are kept where they come to be."""
        ...

    def compare(
        self, payload: ComparedPayload, states: Kept[ReferenceStates], reference: Kept[Reference]
    ) -> Call[Computed]:
        """Has it work on a shard, held against the reference."""
        ...


class Pool(Protocol):
    """Starts actors and waits for what they do."""

    @property
    def store_bytes(self) -> int:
        """What kept values may take, all together, without going to a disk."""
        ...

    def start(self, gpus: int) -> Actor:
        """Starts an actor with so many GPUs; it may not be there yet when this returns."""
        ...

    def keep(self, value: T) -> Kept[T]:
        """Keeps a value to pass it to calls."""
        ...

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        """Those of the calls that have ended; waits for one, but not longer than the timeout."""
        ...

    def result(self, call: Call[T]) -> T:
        """What an ended call returned.

        Raises:
            VariantError: the actor said that its variant cannot be used.
            ValueLostError: a kept value that it was given is gone, or what it returned.
            CallFailedError: it failed in another way, or its actor died.
        """
        ...

    def show(self, figures: Sequence[Figure]) -> None:
        """Shows all figures of a moment to who watches the machines, where anybody can."""
        ...

    def stop(self, actor: Actor) -> None:
        """Ends an actor at once, whatever it does, and frees its device."""
        ...
