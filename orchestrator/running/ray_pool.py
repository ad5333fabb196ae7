"""Actors on a Ray cluster, and what Ray's errors mean."""

from collections.abc import Collection, Sequence
from typing import Any

import ray

from actors.actor import ModelActor
from orchestrator.contract.variant_errors import VariantError, first_line
from orchestrator.running.pool import CALLS_IN_FLIGHT, CallFailedError, ValueLostError


class RayPool:
    """A `Pool` on the connected cluster; what it keeps is in Ray's object store.

    Args:
        threads: processor threads of each actor.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    @property
    def store_bytes(self) -> int:
        """The size of the object stores of all nodes."""
        return int(ray.cluster_resources().get("object_store_memory", 0))

    def start(self, gpus: int) -> Any:
        """Asks for an actor; Ray starts it as soon as its device is free.

        Ray does not restart it: a model that was loaded again in silence would be measured twice.
        """
        remote = ray.remote(ModelActor).options(
            num_cpus=self._threads,
            num_gpus=gpus,
            max_restarts=0,
            max_concurrency=CALLS_IN_FLIGHT,
        )
        return remote.remote()

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Has an actor work; returns at once."""
        return getattr(actor, method).remote(*arguments)

    def call_and_keep(self, actor: Any, method: str, *arguments: Any) -> tuple[Any, Any]:
        """Has an actor work; the second of what it returns never comes to this process."""
        call, kept = getattr(actor, method).options(num_returns=2).remote(*arguments)
        return call, kept

    def keep(self, value: Any) -> Any:
        """Keeps a value on this node."""
        return ray.put(value)

    def wait(self, calls: Collection[Any], timeout_seconds: float) -> Sequence[Any]:
        """Those of the calls that have ended; waits for one, but not longer than the timeout."""
        ended: Sequence[Any] = ray.wait(list(calls), timeout=timeout_seconds)[0]
        return ended

    def result(self, call: Any) -> Any:
        """What an ended call returned; raises as `Pool.result` says."""
        try:
            return ray.get(call)
        except ray.exceptions.RayError as error:
            # An error of the actor's own code arrives as its cause.
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, VariantError):
                raise type(cause)(str(cause)) from None
            reason = f"{type(cause).__name__}: {first_line(cause)}"
            if isinstance(cause, ray.exceptions.ObjectLostError):
                raise ValueLostError(reason) from None
            died = isinstance(cause, ray.exceptions.RayActorError)
            raise CallFailedError(reason, actor_died=died) from None

    def stop(self, actor: Any) -> None:
        """Ends an actor; only an explicit kill frees its device at once."""
        ray.kill(actor)
