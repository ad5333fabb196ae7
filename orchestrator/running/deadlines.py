"""How long whoever waits for an actor waits: from what such work took, and never for ever."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.contract.shards import Shard
from orchestrator.contract.stages import STAGES
from orchestrator.running.durations import Costs

K = TypeVar("K", bound=Hashable)

LEAST_SECONDS = 600.0
# What takes so many times as long as others of its variant and stage did hangs; where none is done,
# as those of other variants did.
_TIMES_KNOWN, _TIMES_GUESSED = 10.0, 30.0
# Of a token as it is read and as it is made, where nothing like it is done: a large model on a
# processor.
_READ_SECONDS, _MADE_SECONDS = 1.0, 10.0
# Of a checkpoint, which may have to come through a network first.
_BYTES_PER_SECOND = 1e7
# Of the time between two looks counts no more: where it was longer, the driver was stopped, or the
# whole machine.
_LONGEST_STEP_SECONDS = 5.0


@dataclass
class _Wait:
    limit_seconds: float
    waited_seconds: float = 0.0
    is_told: bool = False


@dataclass(frozen=True)
class Late(Generic[K]):
    """Something that takes longer than it should.

    Attributes:
        is_over: whether its deadline is; else half of it.
    """

    name: K
    waited_seconds: float
    limit_seconds: float
    is_over: bool


class Deadlines(Generic[K]):
    """Counts how long each thing that is waited for takes, on a clock that stands still while
    nobody looks at it.

    Args:
        clock: seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self._waits: dict[K, _Wait] = {}

    def late(self, awaited: Mapping[K, Callable[[], float]]) -> Iterator[Late[K]]:
        """What is late, of all that is being done now; each once at half of its time, and again
        once it is over.

        Args:
            awaited: by name: how long it may take, which is asked for when it comes to be awaited.
        """
        now = self._clock()
        step = min(max(0.0, now - self._seen), _LONGEST_STEP_SECONDS)
        self._seen = now
        waits = {name: self._waits.get(name) or _Wait(limit()) for name, limit in awaited.items()}
        # What is awaited from now on has not been waited for yet.
        for name in waits.keys() & self._waits.keys():
            waits[name].waited_seconds += step
        self._waits = waits
        for name, wait in waits.items():
            is_over = wait.waited_seconds >= wait.limit_seconds
            if is_over or (not wait.is_told and wait.waited_seconds >= wait.limit_seconds / 2):
                wait.is_told = True
                yield Late(name, wait.waited_seconds, wait.limit_seconds, is_over)


def most_seconds(shard: Shard, costs: Costs) -> float:
    """What a shard may take of an actor before it is taken for hanging."""
    tokens = shard.payload.timed_tokens
    if costs.is_known(shard):
        seconds = _TIMES_KNOWN * costs.of(shard)
    elif costs.has_done(shard.record.stage):
        seconds = _TIMES_GUESSED * costs.of(shard)
    else:
        made = STAGES[shard.record.stage].phase == "answering"
        seconds = tokens * (_MADE_SECONDS if made else _READ_SECONDS)
    return max(LEAST_SECONDS, seconds)


def most_loading_seconds(checkpoint_bytes: int) -> float:
    """What an actor may take to start, and to load a model."""
    return LEAST_SECONDS + checkpoint_bytes / _BYTES_PER_SECOND
