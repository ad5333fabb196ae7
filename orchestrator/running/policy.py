"""Who gets a device, who gives one up, when a failure is final: what dispatch decides. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What failed this often is not tried again: it would most likely fail for ever.
MAXIMUM_ATTEMPTS = 3


def next_variant(
    ready: Mapping[str, int], active: Mapping[str, int], replicas: int | None, reference: str
) -> str | None:
    """Which variant should get the next actor.

    The reference, which feeds the others, where it has none; else the one with the most shards
    ready for each actor that it has. None if no variant can use another. A variant never has more
    actors than shards, nor than `replicas`.

    Args:
        ready: shards that could run and that no actor has yet, by variant, in the plan's order.
        active: actors at work, by variant.
        replicas: the most actors a variant may have.
    """
    wanting = [
        name
        for name, shards in ready.items()
        if shards > 0 and (replicas is None or active.get(name, 0) < replicas)
    ]
    return max(
        wanting,
        key=lambda name: (
            active.get(name, 0) == 0,
            name == reference and active.get(name, 0) == 0,
            ready[name] / (active.get(name, 0) + 1),
        ),
        default=None,
    )


@dataclass(frozen=True)
class Idle:
    """An actor that has its model and no shard that it could run.

    Attributes:
        waiting: its variant's shards that cannot run yet.
        awaiting: whether what they need is being made.
    """

    variant: str
    waiting: int
    awaiting: bool


def gives_way(idle: Sequence[Idle], wanted: bool, reference: str) -> int | None:
    """Which idle actor is to be stopped; its place in the sequence, None for none.

    One with nothing left to wait for; and where another variant wants a device, one for which
    nothing is being made, the reference last since the others live on it.
    """
    for place, actor in enumerate(idle):
        if not actor.waiting:
            return place
    if not wanted:
        return None
    blocked = [place for place, actor in enumerate(idle) if not actor.awaiting]
    return min(blocked, key=lambda place: idle[place].variant == reference, default=None)


def tries_again(failures: int) -> bool:
    """Whether what failed for the `failures`-th time (at least 1) is tried again."""
    return failures < MAXIMUM_ATTEMPTS
