"""The product's own dispatcher over actors that only pretend: no model, no Ray."""

import io
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa

from orchestrator.contract.exchange import Computed, Loaded, Reference, Span
from orchestrator.contract.shards import (
    Assignment,
    OneDevice,
    Payload,
    Placement,
    SeveralDevices,
    Shard,
    ShardRecord,
)
from orchestrator.contract.stages import ComparedPayload, TeacherForcedPayload
from orchestrator.planning.devices import Capacity
from orchestrator.planning.plan import Plan
from orchestrator.running.ahead import Prepared
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.gauges import Standing
from orchestrator.running.jobs import Outcome
from orchestrator.running.log import Log
from orchestrator.running.stop import StopRequest
from orchestrator.storage.events import Event
from tests.pipeline import RecordingPool, quiet_progress

DESCRIPTION = "what candidates must know"
NO_TIME = Span(0.0, 0.0)


def on_gpus(count: int) -> Placement:
    """A place of so many GPUs."""
    return OneDevice(device="cuda") if count == 1 else SeveralDevices(gpus=count)


class FakeActor:
    """An actor that returns its payload as a table, unless a rule says otherwise.

    Attributes:
        variant: the one that it holds, or is loading.
        is_spent: whether the memory of what it held is not free; set by a rule.
    """

    def __init__(self, rule: Callable[[str, Payload | None], None], loads: list[str]) -> None:
        self.variant = ""
        self.is_spent = False
        self._rule = rule
        self._loads = loads
        self.loaded = False

    def prepare(self, placement: Placement) -> None:
        pass

    def load(self, assignment: Assignment, describe: bool) -> Loaded | None:
        if self.loaded and self.is_spent:
            return None
        self.loaded = False
        self.variant = assignment.variant.name
        self._loads.append(self.variant)
        self._rule(self.variant, None)
        self.loaded = True
        # What it is described by stands for a whole head here.
        return Loaded(
            state_bytes=1,
            reference=cast(Reference, DESCRIPTION) if describe else None,
            prepared=NO_TIME,
            span=NO_TIME,
            machine="made-up",
            files={},
        )

    def evaluate(self, payload: Payload) -> Any:
        assert self.loaded
        self._rule(self.variant, payload)
        return Computed(cast(pa.Table, (self.variant, payload)), NO_TIME)

    def evaluate_and_keep(self, payload: ComparedPayload) -> Any:
        return self.evaluate(payload), payload.windows

    def compare(self, payload: ComparedPayload, states: Any, reference: Any) -> Any:
        """What it is held against must be of the same windows."""
        assert states == payload.windows
        assert reference == DESCRIPTION
        return self.evaluate(payload)


def on(plan: Plan, devices: int, *, reference_bytes: int | None = None) -> Plan:
    """The plan on so many GPUs. A made-up actor's states take a byte a scored token."""
    return replace(
        plan,
        variants=tuple(replace(planned, placement=on_gpus(1)) for planned in plan.variants),
        capacity=Capacity(actors=devices, gpus=devices, threads=1),
        settings=plan.settings.model_copy(update={"reference_bytes": reference_bytes}),
    )


class Sweep:
    """A dispatch of a whole plan on made-up actors, and what it did.

    Attributes:
        loads: the variants that actors loaded, in order.
    """

    def __init__(
        self, plan: Plan, rule: Callable[[str, Payload | None], None], **options: Any
    ) -> None:
        self.plan = plan
        self.committed: dict[ShardRecord, Any] = {}
        self.events: list[Event] = []
        self.said = io.StringIO()
        self.stop = StopRequest()
        self.loads: list[str] = []
        self.pool = RecordingPool(
            lambda: FakeActor(rule, self.loads), options.get("next_call", min)
        )
        self._commit = options.get("commit", self.committed.__setitem__)
        self._decides: Callable[[int], bool] = options.get("decides", lambda _: False)
        self._observe: Callable[[Standing], None] = options.get("observe", lambda _: None)
        self._clock: Callable[[], float] = options.get("clock", time.monotonic)
        # What was asked for before the plan was there.
        self.prepared: list[Prepared] = []

    def run(self, finished: Collection[Shard] = ()) -> Outcome:
        progress = quiet_progress(self.plan, self.said)
        self.finished = [shard.record for shard in finished]
        dispatcher = Dispatcher(
            self.plan,
            self.pool,
            self._commit,
            self._read,
            Log(self.events.append),
            progress,
            self.prepared,
            decides=self._decides,
            observe=self._observe,
            clock=self._clock,
        )
        try:
            return dispatcher.run({shard.record.fingerprint for shard in finished}, self.stop)
        finally:
            # Whatever happened, no actor is left holding a device.
            assert self.pool.started == sorted(self.pool.stopped, key=self.pool.started.index)

    def _read(self, record: ShardRecord) -> Any:
        """What the reference answered."""
        assert record.stage == "generations"
        assert record in self.committed or record in self.finished
        return pa.table({"prompt": [record.index], "token_ids": answers_of(record)})


def answers_of(record: ShardRecord) -> list[list[int]]:
    """What the made-up reference answers to the prompt of a shard: its number, as a token."""
    assert record.items == 1
    return [[record.index]]


def payload_of(shard: Shard) -> Payload:
    """What an actor is given of a shard."""
    if isinstance(shard.payload, TeacherForcedPayload):
        return shard.payload.with_answers([[number] for number in shard.payload.item_numbers])
    return shard.payload


def fine(variant: str, payload: Payload | None) -> None:
    """A rule under which nothing fails."""
