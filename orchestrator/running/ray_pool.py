"""Actors on a Ray cluster, and what Ray's errors mean."""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import ray

from actors.actor import ModelActor
from orchestrator.contract.exchange import Computed, Loaded, Reference, ReferenceStates
from orchestrator.contract.shards import Assignment, Payload, Placement
from orchestrator.contract.stages import ComparedPayload
from orchestrator.contract.variant_errors import NoMemoryError, VariantError, first_line
from orchestrator.running.metrics import Figure
from orchestrator.running.policy import FailureKind
from orchestrator.running.pool import (
    CALLS_IN_FLIGHT,
    Actor,
    Call,
    CallFailedError,
    Kept,
    ValueLostError,
)
from orchestrator.running.ray_metrics import RayMetrics
from orchestrator.running.ray_nodes import NODE_ID

T = TypeVar("T")


class RayActor:
    """An `Actor` on Ray.

    Args:
        handle: Ray's, of a `ModelActor`.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def prepare(self, placement: Placement) -> Call[None]:
        """Has it import what loading needs, and wake its device."""
        return Call(self.handle.prepare.remote(placement))

    def load(self, assignment: Assignment, describe: bool) -> Call[Loaded | None]:
        """Has it load a model; its log, and Ray's list of tasks, say which."""
        load = self.handle.load.options(name=f"load {assignment.variant.name}")
        return Call(load.remote(assignment, describe))

    def evaluate(self, payload: Payload) -> Call[Computed]:
        """Has it work on a shard."""
        return Call(self.handle.evaluate.remote(payload))

    def evaluate_and_keep(
        self, payload: ComparedPayload
    ) -> tuple[Call[Computed], Kept[ReferenceStates]]:
        """Has it work on a shard, whose states never come to this process."""
        made, states = self.handle.evaluate_and_keep.options(num_returns=2).remote(payload)
        return Call(made), Kept(states)

    def compare(
        self, payload: ComparedPayload, states: Kept[ReferenceStates], reference: Kept[Reference]
    ) -> Call[Computed]:
        """Has it work on a shard, held against the reference."""
        return Call(self.handle.compare.remote(payload, states.handle, reference.handle))


class RayPool:
    """A `Pool` on the connected cluster; what it keeps is in Ray's object store.

    Args:
        threads: processor threads of each actor.
        name: what actors are called in Ray's dashboard, each with a number behind.
        first_python: what stands for Python where the first actor's process is started; else
            Python does.
        off: ids of nodes on which none is started.
    """

    def __init__(
        self,
        threads: int,
        name: str,
        first_python: str | None = None,
        off: Collection[str] = (),
    ) -> None:
        self._threads = threads
        self._name = name
        self._python = first_python
        self._where = {NODE_ID: f"!in({','.join(off)})"} if off else None
        self._started = 0
        self._metrics = RayMetrics()

    @property
    def store_bytes(self) -> int:
        """The size of the object stores of all nodes."""
        return int(ray.cluster_resources().get("object_store_memory", 0))

    def start(self, gpus: int) -> RayActor:
        """Asks for an actor; Ray starts it as soon as its device is free.

        Ray does not restart it: a model that was loaded again in silence would be measured twice.
        """
        self._started += 1
        python, self._python = self._python, None
        remote = ray.remote(ModelActor).options(
            name=f"{self._name}/actor-{self._started}",
            num_cpus=self._threads,
            num_gpus=gpus,
            max_restarts=0,
            max_concurrency=CALLS_IN_FLIGHT,
            label_selector=self._where,
            runtime_env=None if python is None else {"py_executable": python},
        )
        return RayActor(remote.remote())

    def keep(self, value: T) -> Kept[T]:
        """Keeps a value on this node."""
        return Kept(ray.put(value))

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        """Those of the calls that have ended; waits for one, but not longer than the timeout."""
        ended = ray.wait([call.name for call in calls], timeout=timeout_seconds)[0]
        return [Call(name) for name in ended]

    def result(self, call: Call[T]) -> T:
        """What an ended call returned; raises as `Pool.result` says."""
        try:
            found: T = ray.get(call.name)
        except ray.exceptions.RayError as error:
            # An error of the actor's own code arrives as its cause.
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, VariantError):
                raise type(cause)(str(cause)) from None
            reason = f"{type(cause).__name__}: {first_line(cause)}"
            if isinstance(cause, ray.exceptions.ObjectLostError):
                raise ValueLostError(reason) from None
            raise CallFailedError(reason, _kind_of(cause)) from None
        return found

    def show(self, figures: Sequence[Figure]) -> None:
        """Shows all figures of a moment as metrics of Ray."""
        self._metrics.show(figures)

    def stop(self, actor: Actor) -> None:
        """Ends an actor; only an explicit kill frees its device at once."""
        assert isinstance(actor, RayActor)
        ray.kill(actor.handle)


def _kind_of(cause: BaseException) -> FailureKind:
    """In which way a call failed, by the error that Ray makes of it."""
    if isinstance(cause, NoMemoryError):
        return "memory"
    if isinstance(cause, ray.exceptions.RayActorError):
        # An actor that is not restarted is "unavailable" where its node is.
        unavailable = isinstance(cause, ray.exceptions.ActorUnavailableError)
        lost = cause.preempted or unavailable or "node has died" in str(cause)
        return "node" if lost else "death"
    return "node" if isinstance(cause, ray.exceptions.NodeDiedError) else "error"
