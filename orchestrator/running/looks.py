"""Which look at the text is open, and what of it is still to be seen. Pure bookkeeping."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from orchestrator.contract.shards import ShardRecord


class Looks:
    """The windows of a plan by the look that they belong to; most plans have one.

    Args:
        records: of all shards.
        finished: fingerprints of those whose tables there are.
    """

    def __init__(self, records: Sequence[ShardRecord], finished: AbstractSet[str]) -> None:
        self.open = 0
        self._unseen: dict[int, set[str]] = {}
        for record in records:
            if record.look is not None:
                unseen = self._unseen.setdefault(record.look, set())
                if record.fingerprint not in finished:
                    unseen.add(record.fingerprint)
        self._lost = False

    def is_later(self, record: ShardRecord) -> bool:
        """Whether a shard belongs to a look that is not open yet."""
        return record.is_after(self.open)

    @property
    def has_later(self) -> bool:
        """Whether there is a look that is not open yet."""
        return any(look > self.open for look in self._unseen)

    @property
    def is_over(self) -> bool:
        """Whether nothing of the open look is left to be seen, or will be."""
        return not self._unseen.get(self.open)

    @property
    def is_whole(self) -> bool:
        """Whether all windows up to the open look have been seen."""
        return self.is_over and not self._lost

    def see(self, record: ShardRecord) -> None:
        """A shard's table came in."""
        if record.look is not None:
            self._unseen[record.look].discard(record.fingerprint)

    def lose(self, record: ShardRecord) -> None:
        """A shard will have no table."""
        if record.look is not None and record.fingerprint in self._unseen[record.look]:
            self._unseen[record.look].discard(record.fingerprint)
            self._lost = True

    def end(self) -> None:
        """No further look is taken."""
        self._unseen = {look: unseen for look, unseen in self._unseen.items() if look <= self.open}
