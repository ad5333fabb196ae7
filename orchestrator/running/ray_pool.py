"""Actors on a Ray cluster, and what Ray's errors mean."""

from collections.abc import Collection, Sequence
from typing import Any

import ray

from actors.actor import ModelActor
from orchestrator.contract.errors import CannotLoadError, first_line
from orchestrator.plan import PlannedVariant
from orchestrator.running.pool import CallFailedError


class RayPool:
    """A `Pool` on the connected cluster.

    Args:
        device: `cuda` or `cpu`.
        threads: processor threads of each actor.
    """

    def __init__(self, device: str, threads: int) -> None:
        self._device = device
        self._threads = threads

    def start(self, planned: PlannedVariant) -> Any:
        """Asks for an actor; Ray starts it as soon as its device is free.

        Ray does not restart it: a model that was loaded again in silence would be measured twice.
        """
        remote = ray.remote(ModelActor).options(
            num_cpus=self._threads, num_gpus=planned.gpus, max_restarts=0
        )
        return remote.remote(
            location=planned.checkpoint.location,
            variant=planned.variant,
            compute_dtype=planned.compute_dtype,
            device=self._device,
            threads=self._threads,
        )

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Has an actor work; returns at once."""
        return getattr(actor, method).remote(*arguments)

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
            if isinstance(cause, CannotLoadError):
                raise CannotLoadError(str(cause)) from None
            raise CallFailedError(f"{type(cause).__name__}: {first_line(cause)}") from None

    def stop(self, actor: Any) -> None:
        """Ends an actor; only an explicit kill frees its device at once."""
        ray.kill(actor)
