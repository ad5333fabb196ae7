"""What a dispatch has in flight, and how it ends."""

from dataclasses import dataclass, field
from typing import Any

from orchestrator.contract.exchange import ReferenceStates, Span
from orchestrator.contract.shards import Shard, ShardRecord
from orchestrator.running.pool import Kept
from orchestrator.running.schedule import States
from orchestrator.running.workers import Worker
from orchestrator.storage.events import moment


@dataclass
class Outcome:
    """How a dispatch ended.

    Attributes:
        abandoned: shards that were given up, with the reason.
        stopped: whether a stop was asked for before all was done.
    """

    abandoned: list[tuple[ShardRecord, str]] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True)
class Job:
    """A call in flight: of a shard or, without one, to load the model.

    Attributes:
        sent: when it was handed out, in seconds since the epoch.
        makes: what it leaves behind for others.
        against: what it is held against.
    """

    worker: Worker
    sent: float
    shard: Shard | None = None
    makes: Kept[ReferenceStates] | None = None
    against: States | None = None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.worker.variant}: loading" if self.shard is None else self.shard.record.name

    def times(self, span: Span) -> dict[str, Any]:
        """When it was handed out and done, as events have it."""
        return {"sent": moment(self.sent), **times_of(span)}


def times_of(span: Span) -> dict[str, Any]:
    """When something began and ended, as events have it."""
    return {"began": moment(span.began), "ended": moment(span.ended)}
