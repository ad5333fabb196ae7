"""The product's own dispatcher over actors that only pretend: no model, no Ray."""

import io
from collections.abc import Callable, Collection
from typing import Any, cast

import pyarrow as pa

from orchestrator.contract.exchange import Loaded, Reference
from orchestrator.contract.shards import (
    ComparedPayload,
    Payload,
    Shard,
    ShardRecord,
    TeacherForcedPayload,
)
from orchestrator.events import Event
from orchestrator.plan import Plan
from orchestrator.running.dispatch import Dispatcher, Outcome
from orchestrator.running.stop import StopRequest
from tests.pipeline import InProcessPool, quiet_progress

DESCRIPTION = "what candidates must know"


class FakeActor:
    """An actor that returns its payload as a table, unless a rule says otherwise."""

    def __init__(self, variant: str, rule: Callable[[str, Payload | None], None]) -> None:
        self.variant = variant
        self._rule = rule
        self.loaded = False

    def load(self, describe: bool) -> Loaded:
        self._rule(self.variant, None)
        self.loaded = True
        # What it is described by stands for a whole head here.
        return Loaded(state_bytes=1, reference=cast(Reference, DESCRIPTION) if describe else None)

    def evaluate(self, payload: Payload) -> Any:
        assert self.loaded
        self._rule(self.variant, payload)
        return self.variant, payload

    def evaluate_and_keep(self, payload: ComparedPayload) -> Any:
        return self.evaluate(payload), payload.windows

    def compare(self, payload: ComparedPayload, states: Any, reference: Any) -> Any:
        """What it is held against must be of the same windows."""
        assert states == payload.windows
        assert reference == DESCRIPTION
        return self.evaluate(payload)


class Sweep:
    """A dispatch of a whole plan on made-up actors, and what it did."""

    def __init__(
        self, plan: Plan, rule: Callable[[str, Payload | None], None], **options: Any
    ) -> None:
        self.plan = plan
        self.committed: dict[ShardRecord, Any] = {}
        self.events: list[Event] = []
        self.said = io.StringIO()
        self.stop = StopRequest()
        self.pool = InProcessPool(
            lambda planned: FakeActor(planned.name, rule), options.get("next_call", min)
        )
        self._commit = options.get("commit", self.committed.__setitem__)

    def run(self, finished: Collection[Shard] = ()) -> Outcome:
        progress = quiet_progress(self.plan, self.said)
        self.finished = [shard.record for shard in finished]
        dispatcher = Dispatcher(
            self.plan, self.pool, self._commit, self._read, self.events.append, progress
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
        return pa.table({"token_ids": answers_of(record)})

    @property
    def actors(self) -> list[str]:
        """The variants of the actors that were started, in order."""
        return [actor.variant for actor in self.pool.started]


def answers_of(record: ShardRecord) -> list[list[int]]:
    """What the made-up reference answers to the prompts of a shard, in tokens."""
    return [[number] for number in range(record.items)]


def payload_of(shard: Shard) -> Payload:
    """What an actor is given of a shard."""
    if isinstance(shard.payload, TeacherForcedPayload):
        return shard.payload.with_answers(answers_of(shard.record))
    return shard.payload


def fine(variant: str, payload: Payload | None) -> None:
    """A rule under which nothing fails."""
