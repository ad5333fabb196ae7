"""Where actors live, as the dispatcher sees it."""

from collections.abc import Collection, Hashable, Sequence
from typing import Any, Protocol

from orchestrator.plan import PlannedVariant

# What a pool hands out for an actor and for a call; they mean something to the pool alone.
Actor = Any
Call = Hashable


class CallFailedError(Exception):
    """A call ended without a result; the message is one line. Its actor is not used again."""


class Pool(Protocol):
    """Starts actors (`actors.actor.ModelActor`) and passes calls to them."""

    def start(self, planned: PlannedVariant) -> Actor:
        """Starts an actor; it may not be there yet when this returns."""
        ...

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        """Has an actor work; returns at once."""
        ...

    def wait(self, calls: Collection[Call], timeout_seconds: float) -> Sequence[Call]:
        """Those of the calls that have ended; waits for one, but not longer than the timeout."""
        ...

    def result(self, call: Call) -> Any:
        """What an ended call returned.

        Raises:
            CannotLoadError: the actor said that its variant cannot be loaded.
            CallFailedError: it failed in another way, or died.
        """
        ...

    def stop(self, actor: Actor) -> None:
        """Ends an actor at once, whatever it does, and frees its device."""
        ...
