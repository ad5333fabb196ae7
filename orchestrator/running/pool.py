"""Where actors live, as the dispatcher sees it."""

from collections.abc import Collection, Hashable, Sequence
from typing import Any, Protocol

# What a pool hands out for an actor, a call, and a value that it keeps; they mean something to the
# pool alone. A kept value lives as long as somebody holds what stands for it.
Actor = Any
Call = Hashable
Kept = Any

# Of an actor: one works while the result of another travels.
CALLS_IN_FLIGHT = 2


class CallFailedError(Exception):
    """A call ended without a result; the message is one line. Its actor is not used again.

    Attributes:
        actor_died: whether its process is gone: any other of its calls may be to blame.
    """

    def __init__(self, message: str, *, actor_died: bool = False) -> None:
        super().__init__(message)
        self.actor_died = actor_died


class ValueLostError(Exception):
    """What a call was to be given, or what it returned, is gone; its actor may be well."""


class Pool(Protocol):
    """Starts actors (`actors.actor.ModelActor`) and passes calls to them."""

    @property
    def store_bytes(self) -> int:
        """What kept values may take, all together, without going to a disk."""
        ...

    def start(self, gpus: int) -> Actor:
        """Starts an actor with so many GPUs; it may not be there yet when this returns."""
        ...

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        """Has an actor work; returns at once. Kept values are passed as what they stand for."""
        ...

    def call_and_keep(self, actor: Actor, method: str, *arguments: Any) -> tuple[Call, Kept]:
        """The same for a method that returns a pair, of which the second is kept."""
        ...

    def keep(self, value: Any) -> Kept:
        """Keeps a value to pass it to calls."""
        ...

    def wait(self, calls: Collection[Call], timeout_seconds: float) -> Sequence[Call]:
        """Those of the calls that have ended; waits for one, but not longer than the timeout."""
        ...

    def result(self, call: Call) -> Any:
        """What an ended call returned.

        Raises:
            VariantError: the actor said that its variant cannot be used.
            ValueLostError: a kept value that it was given is gone, or what it returned.
            CallFailedError: it failed in another way, or its actor died.
        """
        ...

    def stop(self, actor: Actor) -> None:
        """Ends an actor at once, whatever it does, and frees its device."""
        ...
