"""What failed in a dispatch: how often, by whom, and what is not tried any more."""

from collections import Counter, defaultdict
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from orchestrator.contract.shards import ShardRecord
from orchestrator.running.policy import FailureKind, tries_again


class Failures:
    """Counts failures and remembers reasons.

    Attributes:
        hopeless: variants that cannot be used, or whose actors died too often while they loaded:
            why.

    Args:
        tell: says something that the user should know of.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._counts: Counter[tuple[str, FailureKind]] = Counter()
        self.hopeless: dict[str, str] = {}
        # Why shards were given up, by fingerprint; and the numbers of the actors that failed at it.
        self._given_up: dict[str, str] = {}
        self._failed_by: dict[str, set[int]] = defaultdict(set)

    def count(self, what: str, reason: str, kind: FailureKind) -> bool:
        """Counts and tells a failure; whether to try again."""
        self._counts[what, kind] += 1
        again = tries_again(self._counts[what, kind], kind)
        self._tell(f"{what}: {reason}; {'trying again' if again else 'given up'}")
        return again

    @property
    def by_kind(self) -> Counter[FailureKind]:
        """How many there were of each kind."""
        found: Counter[FailureKind] = Counter()
        for (_, kind), count in self._counts.items():
            found[kind] += count
        return found

    def of_loading(self, variant: str, reason: str, kind: FailureKind) -> None:
        """A variant's actor failed before it had its model."""
        if not self.count(f"{variant}: loading", reason, kind):
            self.hopeless[variant] = reason

    def refuse(self, variant: str, reason: str) -> None:
        """A variant cannot be used, however often it is tried."""
        self._tell(f"{reason}; given up")
        self.hopeless[variant] = reason

    def note_actor(self, record: ShardRecord, actor: int) -> None:
        """An actor failed at a shard."""
        self._failed_by[record.fingerprint].add(actor)

    def tried(self, record: ShardRecord) -> AbstractSet[int]:
        """The numbers of the actors that failed at a shard."""
        return self._failed_by.get(record.fingerprint, frozenset())

    def give_up(self, record: ShardRecord, reason: str) -> None:
        """A shard is not tried any more."""
        self._given_up[record.fingerprint] = reason

    def why_hopeless(self, record: ShardRecord) -> str:
        """Why a shard can never run: what it needs was given up, or its variant."""
        reasons = (self._given_up.get(source or "") for source in (record.needs, *record.reads))
        return next(filter(None, reasons), None) or self.hopeless[record.variant]
