"""Which actors take too long at what they are at."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.planning.plan import Plan
from orchestrator.running.deadlines import Deadlines, most_loading_seconds, most_seconds
from orchestrator.running.durations import Costs
from orchestrator.running.jobs import Job
from orchestrator.running.pool import Call
from orchestrator.running.workers import Worker
from orchestrator.units import duration


@dataclass(frozen=True)
class LateCall:
    """A call that takes long.

    Attributes:
        problem: in a line.
        is_over: whether it is to be waited for no longer.
    """

    call: Call[Any]
    problem: str
    is_over: bool


class Watch:
    """Sees to it that no actor is waited for for ever.

    Args:
        plan: of what the actors do.
        costs: what shards take.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, plan: Plan, costs: Costs, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chosen_seconds = plan.settings.shard_timeout
        self._bytes = {one.name: one.checkpoint.disk_bytes for one in plan.variants}
        self._costs = costs
        self._deadlines = Deadlines[Call[Any]](clock)

    def late(self, workers: Iterable[Worker], jobs: Mapping[Call[Any], Job]) -> Iterator[LateCall]:
        """The calls that have become late since this was asked last.

        An actor does one thing after another: what it has beside its oldest call waits for that.
        """
        at_work = [worker.calls[0] for worker in workers if worker.calls]
        awaited = {call: partial(self._most_seconds, jobs[call]) for call in at_work}
        for late in self._deadlines.late(awaited):
            problem = f"no result after {duration(late.waited_seconds)}"
            if not late.is_over:
                limit = duration(late.limit_seconds)
                problem = f"slow, {problem}; ended at {limit} (--shard-timeout)"
            yield LateCall(late.name, problem, late.is_over)

    def _most_seconds(self, job: Job) -> float:
        if self._chosen_seconds is not None:
            return self._chosen_seconds
        if job.shard is None:
            return most_loading_seconds(self._bytes[job.worker.variant])
        return most_seconds(job.shard, self._costs)
