"""What happened in a run, as it is written to `events.jsonl`: one object a line."""

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic import Field

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.shards import ShardRecord

EventKind = Literal[
    "run_started",
    "driver_worked",
    "actor_started",
    "actor_prepared",
    "actor_loaded",
    "actor_stopped",
    "shard_computed",
    "states_lost",
    "failed",
    "given_up",
    "run_ended",
]


class Event(Frozen):
    """Something that happened to the driver, to an actor of a variant, or to a shard of it.

    Attributes:
        time: by the driver's clock.
        variant: None for the driver's own.
        shard: its name, where it is about one.
        items: of that shard.
        states_bytes: what is kept of it for other variants, where they need it.
        reason: why something failed.
        actor: the number of a process in this start of the run.
        place: which of the devices that the run may use at once it has, from 0.
        sent: when the driver handed out what was done.
        began, ended: when it was done. An actor's by the clock of its machine. Of an actor that
            was started: when its process was asked for.
        phase: what the driver did.
    """

    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    event: EventKind
    variant: str | None = None
    shard: str | None = None
    items: int | None = None
    states_bytes: int | None = None
    reason: str | None = None
    actor: int | None = None
    place: int | None = None
    sent: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None
    phase: str | None = None

    @classmethod
    def of_shard(cls, event: EventKind, record: ShardRecord, **more: Any) -> "Event":
        """An event of a shard."""
        return cls(
            event=event, variant=record.variant, shard=record.name, items=record.items, **more
        )


class EventLog(NamedTuple):
    """What happened in a run.

    Attributes:
        events: in order.
        unread: how many lines cannot be read.
    """

    events: list[Event]
    unread: int


def moment(seconds: float) -> datetime:
    """A time in seconds since the epoch, as events have it."""
    return datetime.fromtimestamp(seconds, UTC)
