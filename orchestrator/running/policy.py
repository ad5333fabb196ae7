"""Who gets a device and which shard, who gives a device up, when a failure is final. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# Why something failed: the work itself, its process, its node, the device's memory, or the wait.
FailureKind = Literal["error", "death", "node", "memory", "timeout"]
# What failed this often is not tried again: it would most likely fail for ever.
MAXIMUM_ATTEMPTS = 3
# By kind, each counted by itself. That a node is taken away says nothing of the work.
ATTEMPTS: dict[FailureKind, int] = {
    "error": MAXIMUM_ATTEMPTS,
    "death": MAXIMUM_ATTEMPTS,
    "node": 20,
    "memory": 2,
    "timeout": 2,
}
# Of shards in a row that an actor failed at; its process may be broken.
_MAXIMUM_FAULTS = 2
# A shard that takes longer hides nothing of the way that the next one has to go.
_LONG_SECONDS = 2.0
# With less than so many of the longest shards left for each actor, their order matters.
_LONG_SHARDS_LEFT = 3


@dataclass(frozen=True)
class Demand:
    """What a variant has left that no actor has yet.

    Attributes:
        ready: shards that could run, less one for each actor that is still loading.
        coming: shards that wait for what is on its way.
        seconds: what all of these will take.
        actors: that it has, those that are loading included.
        loading_seconds: until another one could begin.
        is_loaded: whether one has begun.
    """

    ready: int
    coming: int
    seconds: float
    actors: int
    loading_seconds: float
    is_loaded: bool

    @property
    def seconds_to_end(self) -> float:
        """How long its actors will take for all of it, if no other comes."""
        seconds = self.seconds / max(1, self.actors)
        return seconds if self.is_loaded else self.loading_seconds + seconds


def room_for(gpus: int, node_gpus: Sequence[int]) -> int:
    """How many GPUs must be free for one machine to be sure to have so many of them.

    Which machine the others are of is Ray's choice: an actor that is asked for earlier may have to
    wait for as long as these stay.

    Args:
        gpus: that a model is on.
        node_gpus: of each machine; none where they are not to be told apart.
    """
    if gpus < 2:
        return gpus
    return max(gpus, 1 + sum(min(each, gpus - 1) for each in node_gpus))


def next_variant(demands: Mapping[str, Demand], replicas: int | None, reference: str) -> str | None:
    """Which variant should get the next actor.

    The reference, which feeds the others, where it has none; then one that has none; else the one
    that would end last. None if no variant can use another: it never has more actors than shards,
    nor than `replicas`, and none that would be loaded only when the work is done.

    Args:
        demands: by variant, in the plan's order.
        replicas: the most actors a variant may have.
    """

    def wants(demand: Demand) -> bool:
        if demand.ready + demand.coming <= 0:
            return False
        if demand.actors == 0:
            return True
        pays = demand.seconds / demand.actors > demand.loading_seconds
        return pays and (replicas is None or demand.actors < replicas)

    def urgency(name: str) -> tuple[bool, bool, bool, float]:
        demand = demands[name]
        has_none = demand.actors == 0
        is_first = has_none and name == reference
        return has_none, is_first, demand.ready > 0, demand.seconds_to_end

    return max((name for name in demands if wants(demands[name])), key=urgency, default=None)


def next_shard(longest: Sequence[float], seconds: float, actors: int) -> int:
    """Which stage's shard an actor gets next; its place in the sequence.

    The first stage's, so that what others need is done first; towards the end that of the longest
    shards, so that no actor begins one when the others have nothing left.

    Args:
        longest: what a shard of each stage takes that has some, in the plan's order; at least one.
        seconds: what all shards take that could run.
        actors: of the variant.
    """
    if actors < 2 or seconds > _LONG_SHARDS_LEFT * max(longest) * actors:
        return 0
    return longest.index(max(longest))


def takes_another(at_work_on: float | None, ready: int, actors: int) -> bool:
    """Whether an actor gets its next shard while it works on one.

    It does where the way of a shard is long beside the shard, and where none of the variant's other
    actors could be free for it earlier.

    Args:
        at_work_on: what the shard takes that it has, in seconds; None where that is not known.
        ready: shards of the variant that could run.
        actors: of the variant.
    """
    return at_work_on is not None and at_work_on < _LONG_SECONDS and ready >= actors


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


def gives_way(idle: Sequence[Idle], wanted: bool, lacked: bool, reference: str) -> int | None:
    """Which idle actor is to be stopped; its place in the sequence, None for none.

    One with nothing left to wait for. Where a variant wants a device, one that waits beside another
    of its own variant; where one has none at all, also one for which nothing is being made. The
    reference last, since the others live on it.

    Args:
        wanted: whether a variant could use another device.
        lacked: whether that one has none.
    """
    for place, actor in enumerate(idle):
        if not actor.waiting:
            return place
    if not wanted:
        return None
    variants = [actor.variant for actor in idle]
    spare = [
        place
        for place, actor in enumerate(idle)
        if (lacked and not actor.awaiting) or variants.count(actor.variant) > 1
    ]
    return min(spare, key=lambda place: idle[place].variant == reference, default=None)


def tries_again(failures: int, kind: FailureKind) -> bool:
    """Whether what failed for the `failures`-th time (at least 1) in this way is tried again."""
    return failures < ATTEMPTS[kind]


def is_trusted(faults: int) -> bool:
    """Whether an actor gets more shards that failed at the last `faults` of them."""
    return faults < _MAXIMUM_FAULTS
