"""How a dispatch stands, as the figures that `orchestrator.running.metrics` declares."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.stages import STAGES
from orchestrator.planning.plan import Plan
from orchestrator.running.allocation import Allocation
from orchestrator.running.durations import Costs
from orchestrator.running.failures import Failures
from orchestrator.running.jobs import Job, Outcome
from orchestrator.running.metrics import METRICS, Figure
from orchestrator.running.pool import Call
from orchestrator.running.schedule import Schedule
from orchestrator.running.workers import Worker, Workers

# Between two looks: whoever scrapes them comes every ten seconds or so.
_INTERVAL_SECONDS = 2.0


@dataclass(frozen=True)
class Standing:
    """A dispatch as it goes on, to be read."""

    plan: Plan
    schedule: Schedule
    allocation: Allocation
    workers: Workers
    jobs: Mapping[Call[Any], Job]
    costs: Costs
    failures: Failures
    outcome: Outcome


class Gauges:
    """Shows figures every few seconds.

    Args:
        show: takes in all figures of a moment; what it was shown before and not now is over.
        run: the run's id.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        show: Callable[[Sequence[Figure]], None],
        run: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._run = run
        self._clock = clock
        self._due = float("-inf")

    def update(self, standing: Standing) -> None:
        """Shows how a dispatch stands, unless it goes on and that was done a moment ago."""
        if self._clock() >= self._due or not standing.jobs:
            self._show(list(self._figures(standing)))
            self._due = self._clock() + _INTERVAL_SECONDS

    def _figures(self, standing: Standing) -> Iterator[Figure]:
        for metric, *labels, value in _values(standing):
            named = dict(zip(METRICS[metric].labels, map(str, labels), strict=True))
            yield Figure(metric, {"run": self._run, **named}, value)


def _values(standing: Standing) -> Iterator[tuple[Any, ...]]:
    """Each figure's metric, the values of its labels, and its own."""
    for (variant, state), count in _shards(standing).items():
        yield "sweep_shards", variant, state, count
    for (variant, stage), (seconds, tokens) in standing.costs.done.items():
        if STAGES[stage].phase != "loading":
            yield "sweep_tokens_total", variant, stage, tokens
            yield "sweep_device_seconds_total", variant, stage, seconds
    for kind, count in standing.failures.by_kind.items():
        yield "sweep_failures_total", kind, count
    at_work = {worker.started.place: worker for worker in standing.workers}
    for place in range(max([standing.plan.capacity.actors, *(n + 1 for n in at_work)])):
        worker = at_work.get(place)
        variant = "" if worker is None else worker.variant
        yield "sweep_devices", place, variant, _phase(worker, standing.jobs), 1
    yield "sweep_states_bytes", standing.schedule.states_bytes
    yield "sweep_states_limit_bytes", standing.schedule.limit_bytes
    if (left := standing.allocation.seconds_left()) is not None:
        yield "sweep_seconds_left", left


def _shards(standing: Standing) -> Counter[tuple[str, str]]:
    """Shards by variant and state; one that runs again for its states alone is done."""
    found: Counter[tuple[str, str]] = Counter({(v.name, "done"): 0 for v in standing.plan.variants})
    found.update(standing.schedule.counts())
    found.update((record.variant, "given_up") for record, _ in standing.outcome.abandoned)
    return found


def _phase(worker: Worker | None, jobs: Mapping[Call[Any], Job]) -> str:
    """What a device is at, in the timeline's words where there is one for it."""
    if worker is None:
        return "free"
    if not worker.loaded:
        return "loading"
    shard = jobs[worker.calls[0]].shard if worker.calls else None
    return "waiting" if shard is None else STAGES[shard.record.stage].phase
