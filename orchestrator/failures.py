"""A failure → what to do about it. Pure."""

from enum import Enum

# A shard that failed this often is not tried again: it would most likely fail for ever.
MAXIMUM_ATTEMPTS = 3


class Decision(Enum):
    """What becomes of a shard, and of the actor that failed it."""

    RETRY = "hand the shard out again, to a new actor"
    GIVE_UP = "leave the shard out; the run is incomplete"


def decide(attempts: int) -> Decision:
    """Decides after a shard failed for the `attempts`-th time (at least 1)."""
    return Decision.RETRY if attempts < MAXIMUM_ATTEMPTS else Decision.GIVE_UP
