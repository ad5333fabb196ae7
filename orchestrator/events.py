"""What happened in a run, as it is written to `events.jsonl`: one object a line."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from orchestrator.contract.frozen import Frozen
from orchestrator.contract.shards import ShardRecord

EventKind = Literal[
    "actor_started",
    "actor_loaded",
    "actor_stopped",
    "shard_computed",
    "states_lost",
    "failed",
    "given_up",
]


class Event(Frozen):
    """Something that happened to an actor of a variant, or to a shard of it.

    Attributes:
        shard: its name, where it is about one.
        items: of that shard.
        states_bytes: what is kept of it for other variants, where they need it.
        reason: why something failed.
    """

    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    event: EventKind
    variant: str
    shard: str | None = None
    items: int | None = None
    states_bytes: int | None = None
    reason: str | None = None

    @classmethod
    def of_shard(
        cls,
        event: EventKind,
        record: ShardRecord,
        *,
        states_bytes: int | None = None,
        reason: str | None = None,
    ) -> "Event":
        """An event of a shard."""
        return cls(
            event=event,
            variant=record.variant,
            shard=record.name,
            items=record.items,
            states_bytes=states_bytes,
            reason=reason,
        )
