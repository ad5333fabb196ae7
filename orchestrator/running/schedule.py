"""Which shards can run now. Pure bookkeeping: nothing here waits, runs or knows actors.

A candidate's shard of windows can run once the reference's states of the same windows are there.
They are made by the reference's shard, kept until their last use, and made again where they are
lost, also when the shard itself was finished long ago. What reads another shard's table can run
once that is finished; tables are not lost.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.contract.exchange import ReferenceStates
from orchestrator.contract.shards import Shard
from orchestrator.running.looks import Looks
from orchestrator.running.pool import Kept

ShardState = Literal["done", "running", "waiting"]


@dataclass(frozen=True)
class States:
    """A reference's states of a shard's windows.

    Attributes:
        kept: where a pool has them.
        bytes: what they take.
    """

    kept: Kept[ReferenceStates]
    bytes: int


@dataclass
class Pile:
    """Waiting shards of one variant and stage, in the plan's order.

    Attributes:
        tokens: of all of them, as a payload's `timed_tokens` counts.
    """

    shards: list[Shard] = field(default_factory=list)
    tokens: int = 0


class Schedule:
    """The shards of a plan that are still to be run; each is waiting, running or settled.

    What waits lies in piles, those that could run apart from those that cannot yet, so that no
    question costs more than a few steps, however many shards there are.

    Args:
        shards: all of the plan, in order.
        finished: fingerprints of those whose tables there are.
        limit_bytes: the most that the reference's states may take at once; those of a single shard
            are let through whatever they take, so that there is always a way on.

    Windows of later looks at the text are held back until `open_next_look` lets them in, or
    `drop_later_looks` has them never run.

    Attributes:
        limit_bytes: as above.
        looks: which one is open, and what of it is still to be seen.
    """

    def __init__(
        self, shards: Sequence[Shard], finished: AbstractSet[str], limit_bytes: int
    ) -> None:
        self._shards = {shard.record.fingerprint: shard for shard in shards}
        self._place = {fingerprint: n for n, fingerprint in enumerate(self._shards)}
        self._finished = set(finished)
        self.limit_bytes = limit_bytes
        # What the states of one scored token take; no actor has said so yet.
        self._state_bytes = 0
        self._states: dict[str, States] = {}
        self._running: dict[str, Shard] = {}
        self._gave_up = False
        # By fingerprint: the shards that need what a shard leaves behind, or its table; and of
        # those that need its states the ones that are not done.
        self._dependents: dict[str, list[Shard]] = {}
        self._users: dict[str, set[str]] = {}
        for shard in shards:
            record = shard.record
            for source in filter(None, (record.needs, *record.reads)):
                self._dependents.setdefault(source, []).append(shard)
            if record.needs is not None and record.fingerprint not in finished:
                self._users.setdefault(record.needs, set()).add(record.fingerprint)
        # The variant and stages whose shards are needed so.
        makers = (self._shards[needs].record for needs in self._users)
        self._making = {(record.variant, record.stage) for record in makers}
        self.looks = Looks([shard.record for shard in shards], finished)
        # By variant, in the plan's order: what is of later looks than the one that is open.
        self._held: dict[str, list[Shard]] = {}
        # By variant and stage.
        self._open: dict[str, dict[str, Pile]] = {}
        self._blocked: dict[str, dict[str, Pile]] = {}
        for shard in shards:
            for piles in (self._open, self._blocked):
                piles.setdefault(shard.record.variant, {}).setdefault(shard.record.stage, Pile())
            if shard.record.fingerprint not in finished or self.makes_states(shard):
                if self.looks.is_later(shard.record):
                    self._held.setdefault(shard.record.variant, []).append(shard)
                else:
                    self._add(shard)

    def open_next_look(self) -> None:
        """Lets the windows of the next look in."""
        self.looks.open += 1
        for variant, held in self._held.items():
            self._held[variant] = [one for one in held if self.looks.is_later(one.record)]
            for shard in held:
                if not self.looks.is_later(shard.record):
                    self._add(shard)

    def drop_later_looks(self) -> None:
        """Has the windows that are held back never run."""
        self.looks.end()
        for held in self._held.values():
            for shard in held:
                self._release(shard)
        self._held = {}

    @property
    def states_bytes(self) -> int:
        """What the states take that are kept."""
        return sum(states.bytes for states in self._states.values())

    @property
    def needs_states(self) -> bool:
        """Whether any unfinished shard is held against the reference."""
        return any(self._users.values())

    def makes_states(self, shard: Shard) -> bool:
        """Whether an unfinished shard needs what a shard of the reference leaves behind."""
        return bool(self._users.get(shard.record.fingerprint))

    def cost(self, shard: Shard) -> int:
        """What the states that a shard will leave behind take."""
        if not self.makes_states(shard):
            return 0
        return shard.payload.scored_positions * self._state_bytes

    def is_finished(self, shard: Shard) -> bool:
        """Whether a shard's table is there: it may run again, for its states alone."""
        return shard.record.fingerprint in self._finished

    def states_for(self, shard: Shard) -> States | None:
        """What a shard is held against; None where it needs nothing, or it is not there."""
        return self._states.get(shard.record.needs or "")

    def shard_of(self, fingerprint: str) -> Shard:
        """The shard of the plan that has a fingerprint."""
        return self._shards[fingerprint]

    def counts(self) -> Counter[tuple[str, ShardState]]:
        """How many shards of each variant are in a state; one that is run again is done."""
        waiting = {s.record.fingerprint for name in self._open for s in self._all_waiting(name)}
        found: Counter[tuple[str, ShardState]] = Counter()
        states: dict[ShardState, Container[str]]
        states = {"done": self._finished, "running": self._running, "waiting": waiting}
        for fingerprint, shard in self._shards.items():
            state = next((name for name, of in states.items() if fingerprint in of), None)
            if state is not None:
                found[shard.record.variant, state] += 1
        return found

    def waiting(self, variant: str) -> int:
        """How many of a variant's shards wait, whether they can run or not."""
        piles = (*self._open[variant].values(), *self._blocked[variant].values())
        return sum(len(pile.shards) for pile in piles) + len(self._held.get(variant, ()))

    def ready(self, variant: str) -> dict[str, Pile]:
        """A variant's waiting shards that could be started together now, by stage; to be read."""
        found = {stage: pile for stage, pile in self._open[variant].items() if pile.shards}
        making = [stage for stage in found if (variant, stage) in self._making]
        if not making:
            return found
        used = self.states_bytes + sum(self.cost(shard) for shard in self._running.values())
        # Counted one by one only where it matters: fewer tokens are kept than read.
        if used + sum(found[stage].tokens for stage in making) * self._state_bytes > (
            self.limit_bytes
        ):
            pending = bool(self._states) or any(map(self.makes_states, self._running.values()))
            for stage in making:
                found[stage], used, pending = self._within_limit(found[stage], used, pending)
        return {stage: pile for stage, pile in found.items() if pile.shards}

    def tokens_left(self, variant: str) -> dict[str, int]:
        """What is waiting or running of a variant in this look, in tokens by stage."""
        found: dict[str, int] = {}
        for piles in (self._open[variant], self._blocked[variant]):
            for stage, pile in piles.items():
                if pile.shards:
                    found[stage] = found.get(stage, 0) + pile.tokens
        for shard in self._running.values():
            if shard.record.variant == variant:
                stage, tokens = shard.record.stage, shard.payload.timed_tokens
                found[stage] = found.get(stage, 0) + tokens
        return found

    def blocked(self, variant: str) -> dict[str, Pile]:
        """A variant's shards of this look that wait and cannot run yet, by stage; to be read."""
        return self._blocked[variant]

    def is_awaiting(self, variant: str) -> bool:
        """Whether something that a variant's waiting shards need is being made."""
        return any(
            shard.record.variant == variant and self._holds(self._blocked, shard)
            for fingerprint in self._running
            for shard in self._dependents.get(fingerprint, ())
        )

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return not self._running and not any(map(self.waiting, self._open))

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
        self.looks.see(record)
        if states is not None and self.makes_states(shard):
            self._states[record.fingerprint] = states
        self._sort_dependents(record.fingerprint)
        self._release(shard)

    def again(self, shard: Shard) -> None:
        """A running shard waits again, at its place."""
        self._running.pop(shard.record.fingerprint, None)
        self._add(shard)

    def lose(self, shard: Shard, states: States) -> Shard | None:
        """What a shard was held against is gone.

        Returns:
            The reference's shard that makes it, where nothing is under way to make it again.
        """
        needs = str(shard.record.needs)
        if self._states.get(needs) is states:
            del self._states[needs]
            self._sort_dependents(needs)
        maker = self._shards[needs]
        there = needs in self._states or needs in self._running or self._waits(maker)
        return None if there or not self.makes_states(maker) else maker

    def give_up(self, shard: Shard) -> None:
        """A shard will not be run any more."""
        self._gave_up = True
        self.looks.lose(shard.record)
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
        if not variants and not self._gave_up:
            return []
        coming = {None} | self._states.keys() | self._running.keys()
        for name in self._open.keys() - variants:
            coming |= {shard.record.fingerprint for shard in self._all_waiting(name)}
        tables = coming | self._finished
        waiting = [shard for name in self._open for shard in self._all_waiting(name)]
        hopeless = [shard for shard in waiting if shard.record.variant in variants]
        without_source = [
            shard
            for shard in waiting
            if shard.record.variant not in variants
            and not (shard.record.needs in coming and tables.issuperset(shard.record.reads))
        ]
        return [*hopeless, *without_source]

    def _within_limit(self, pile: Pile, used: int, pending: bool) -> tuple[Pile, int, bool]:
        """Of a pile whose shards leave states behind: those for which there is room, in order."""
        room = Pile()
        for shard in pile.shards:
            cost = self.cost(shard)
            if self.makes_states(shard):
                if pending and used + cost > self.limit_bytes:
                    continue
                used, pending = used + cost, True
            room.shards.append(shard)
            room.tokens += shard.payload.timed_tokens
        return room, used, pending

    def _release(self, shard: Shard) -> None:
        """A shard needs nothing any more: the states of its last user are dropped."""
        needs, name = shard.record.needs, shard.record.fingerprint
        if needs is not None and needs in self._users:
            self._users[needs].discard(name)
            if not self._users[needs]:
                self._states.pop(needs, None)

    def _sort_dependents(self, fingerprint: str) -> None:
        """Puts what waits for a shard where it belongs now."""
        for shard in self._dependents.get(fingerprint, ()):
            if self._waits(shard):
                self._withdraw(shard)
                self._add(shard)

    def _can_run(self, shard: Shard) -> bool:
        record = shard.record
        has_states = record.needs is None or record.needs in self._states
        return has_states and self._finished.issuperset(record.reads)

    def _add(self, shard: Shard) -> None:
        pile = self._pile(self._open if self._can_run(shard) else self._blocked, shard)
        insort(pile.shards, shard, key=self._place_of)
        pile.tokens += shard.payload.timed_tokens

    def _withdraw(self, shard: Shard) -> None:
        """Has a shard wait no more, where it does."""
        if self.looks.is_later(shard.record):
            held = self._held.get(shard.record.variant, [])
            self._held[shard.record.variant] = [one for one in held if one is not shard]
            return
        for piles in (self._open, self._blocked):
            if self._holds(piles, shard):
                pile = self._pile(piles, shard)
                del pile.shards[self._position(pile, shard)]
                pile.tokens -= shard.payload.timed_tokens

    def _waits(self, shard: Shard) -> bool:
        return self._holds(self._open, shard) or self._holds(self._blocked, shard)

    def _holds(self, piles: Mapping[str, Mapping[str, Pile]], shard: Shard) -> bool:
        pile = self._pile(piles, shard)
        at = self._position(pile, shard)
        return at < len(pile.shards) and pile.shards[at] is shard

    def _pile(self, piles: Mapping[str, Mapping[str, Pile]], shard: Shard) -> Pile:
        return piles[shard.record.variant][shard.record.stage]

    def _position(self, pile: Pile, shard: Shard) -> int:
        """Where a shard is in a pile, or would be."""
        return bisect_left(pile.shards, self._place_of(shard), key=self._place_of)

    def _place_of(self, shard: Shard) -> int:
        return self._place[shard.record.fingerprint]

    def _all_waiting(self, variant: str) -> Iterator[Shard]:
        """In the plan's order, but for those that cannot run yet, which come last."""
        for piles in (self._open, self._blocked):
            for pile in piles[variant].values():
                yield from pile.shards
        yield from self._held.get(variant, ())
