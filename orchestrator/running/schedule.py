"""Which shards can run now. Pure bookkeeping: nothing here waits, runs or knows actors.

A candidate's shard of windows can run once the reference's states of the same windows are there.
They are made by the reference's shard, kept until their last use, and made again where they are
lost, also when the shard itself was finished long ago. What reads another shard's table can run
once that is finished; tables are not lost.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.shards import ComparedPayload, Shard


@dataclass(frozen=True)
class States:
    """A reference's states of a shard's windows.

    Attributes:
        handle: what a pool calls them.
        bytes: what they take.
    """

    handle: Any
    bytes: int


class Schedule:
    """The shards of a plan that are still to be run; each is waiting, running or settled.

    Args:
        shards: all of the plan, in order.
        finished: fingerprints of those whose tables there are.
        limit_bytes: the most that the reference's states may take at once; those of a single shard
            are let through whatever they take, so that there is always a way on.
    """

    def __init__(
        self, shards: Sequence[Shard], finished: AbstractSet[str], limit_bytes: int
    ) -> None:
        self._shards = {shard.record.fingerprint: shard for shard in shards}
        self._place = {fingerprint: n for n, fingerprint in enumerate(self._shards)}
        self._finished = set(finished)
        self._limit_bytes = limit_bytes
        # What the states of one scored token take; no actor has said so yet.
        self._state_bytes = 0
        self._states: dict[str, States] = {}
        self._running: dict[str, Shard] = {}
        # By the fingerprint of a shard of the reference: the unfinished shards that need it.
        self._users: dict[str, set[str]] = {}
        for record in (shard.record for shard in shards):
            if record.needs is not None and record.fingerprint not in finished:
                self._users.setdefault(record.needs, set()).add(record.fingerprint)
        self._waiting: dict[str, list[Shard]] = {shard.record.variant: [] for shard in shards}
        for shard in shards:
            if shard.record.fingerprint not in finished or self.makes_states(shard):
                self._waiting[shard.record.variant].append(shard)

    @property
    def needs_states(self) -> bool:
        """Whether any unfinished shard is held against the reference."""
        return any(self._users.values())

    def makes_states(self, shard: Shard) -> bool:
        """Whether an unfinished shard needs what a shard of the reference leaves behind."""
        return bool(self._users.get(shard.record.fingerprint))

    def cost(self, shard: Shard) -> int:
        """What the states that a shard will leave behind take."""
        if not self.makes_states(shard) or not isinstance(shard.payload, ComparedPayload):
            return 0
        return shard.payload.scored_tokens * self._state_bytes

    def is_finished(self, shard: Shard) -> bool:
        """Whether a shard's table is there: it may run again, for its states alone."""
        return shard.record.fingerprint in self._finished

    def states_for(self, shard: Shard) -> States | None:
        """What a shard is held against; None where it needs nothing, or it is not there."""
        return self._states.get(shard.record.needs or "")

    def shard_of(self, fingerprint: str) -> Shard:
        """The shard of the plan that has a fingerprint."""
        return self._shards[fingerprint]

    def waiting(self, variant: str) -> int:
        """How many of a variant's shards wait, whether they can run or not."""
        return len(self._waiting[variant])

    def ready(self, variant: str) -> list[Shard]:
        """A variant's waiting shards that could be started together now, in the plan's order."""
        return list(self._ready(variant))

    def unfinished(self, variant: str) -> list[Shard]:
        """All of a variant's shards that wait, in the plan's order."""
        return list(self._waiting[variant])

    def is_awaiting(self, variant: str) -> bool:
        """Whether something that a variant's waiting shards need is being made."""
        return any(
            shard.record.needs in self._running or shard.record.reads in self._running
            for shard in self._waiting[variant]
        )

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return not self._running and not any(self._waiting.values())

    def expect(self, state_bytes: int) -> None:
        """Learns what the reference's states of one scored token take."""
        self._state_bytes = state_bytes

    def take(self, shard: Shard) -> None:
        """A waiting shard that can run is running from now on."""
        self._withdraw(shard)
        self._running[shard.record.fingerprint] = shard

    def finish(self, shard: Shard, states: States | None) -> None:
        """A running shard's table came in, with what it leaves behind for others."""
        record = shard.record
        del self._running[record.fingerprint]
        self._finished.add(record.fingerprint)
        if states is not None and self.makes_states(shard):
            self._states[record.fingerprint] = states
        self._release(shard)

    def again(self, shard: Shard) -> None:
        """A running shard waits again, at its place."""
        self._running.pop(shard.record.fingerprint, None)
        insort(self._waiting[shard.record.variant], shard, key=self._place_of)

    def lose(self, shard: Shard, states: States) -> Shard | None:
        """What a shard was held against is gone.

        Returns:
            The reference's shard that makes it, where nothing is under way to make it again.
        """
        needs = str(shard.record.needs)
        if self._states.get(needs) is states:
            del self._states[needs]
        maker = self._shards[needs]
        there = needs in self._states or needs in self._running or self._waits(maker)
        return None if there or not self.makes_states(maker) else maker

    def give_up(self, shard: Shard) -> None:
        """A shard will not be run any more."""
        self._running.pop(shard.record.fingerprint, None)
        self._withdraw(shard)
        self._release(shard)

    def without_hope(self, variants: AbstractSet[str]) -> list[Shard]:
        """The waiting shards that can never run.

        Args:
            variants: those that no actor can be had of.

        Returns:
            The shards of these, then those that need what nothing is going to make.
        """
        coming = {None} | self._states.keys() | self._running.keys()
        for name in self._waiting.keys() - variants:
            coming |= {shard.record.fingerprint for shard in self._waiting[name]}
        waiting = [shard for shards in self._waiting.values() for shard in shards]
        hopeless = [shard for shard in waiting if shard.record.variant in variants]
        without_source = [
            shard
            for shard in waiting
            if shard.record.variant not in variants
            and not (
                shard.record.needs in coming and shard.record.reads in (coming | self._finished)
            )
        ]
        return [*hopeless, *without_source]

    def _ready(self, variant: str) -> Iterator[Shard]:
        """The waiting shards of a variant that could be started together now, in order."""
        used = sum(states.bytes for states in self._states.values())
        used += sum(self.cost(shard) for shard in self._running.values())
        pending = bool(self._states) or any(map(self.makes_states, self._running.values()))
        for shard in self._waiting[variant]:
            if shard.record.needs is not None and shard.record.needs not in self._states:
                continue
            if shard.record.reads is not None and shard.record.reads not in self._finished:
                continue
            cost = self.cost(shard)
            if self.makes_states(shard):
                if pending and used + cost > self._limit_bytes:
                    continue
                used, pending = used + cost, True
            yield shard

    def _release(self, shard: Shard) -> None:
        """A shard needs nothing any more: the states of its last user are dropped."""
        needs, name = shard.record.needs, shard.record.fingerprint
        if needs is not None and needs in self._users:
            self._users[needs].discard(name)
            if not self._users[needs]:
                self._states.pop(needs, None)

    def _waits(self, shard: Shard) -> bool:
        waiting, at = self._waiting[shard.record.variant], self._position(shard)
        return at < len(waiting) and waiting[at] is shard

    def _withdraw(self, shard: Shard) -> None:
        """Has a shard wait no more, where it does."""
        if self._waits(shard):
            del self._waiting[shard.record.variant][self._position(shard)]

    def _position(self, shard: Shard) -> int:
        """Where it is among the waiting ones of its variant, or would be."""
        waiting = self._waiting[shard.record.variant]
        return bisect_left(waiting, self._place_of(shard), key=self._place_of)

    def _place_of(self, shard: Shard) -> int:
        return self._place[shard.record.fingerprint]
