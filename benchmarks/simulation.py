"""Simulated actors: the product's own dispatcher on a clock of its own, with measured lengths.

Nothing here computes or waits: a call ends when the lengths say so, on a clock that jumps from one
end to the next. What a sweep would do on 64 GPUs is so told in a second, as long as lengths are
what they are: no two actors slow each other down.
"""

import heapq
import io
import random
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import pyarrow as pa
from rich.console import Console

from orchestrator.contract.exchange import Computed, Loaded, Reference, ReferenceStates, Span
from orchestrator.contract.shards import Assignment, Payload, Placement, ShardRecord
from orchestrator.contract.stages import (
    ComparedPayload,
    GenerationsPayload,
    LoadingPayload,
    NoisePayload,
    TeacherForcedPayload,
    ThroughputPayload,
    WindowsPayload,
)
from orchestrator.inputs.sources import Inputs, read_inputs
from orchestrator.inputs.windows import Windows
from orchestrator.planning.devices import Devices
from orchestrator.planning.layout import lay_out
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.running.ahead import prepare
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.jobs import Outcome
from orchestrator.running.log import Log
from orchestrator.running.pool import Actor, Call, CallFailedError, Kept
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.settings import Settings
from orchestrator.storage.events import Event

T = TypeVar("T")


@dataclass(frozen=True)
class Lengths:
    """What a variant takes, in seconds.

    Attributes:
        loading: the model, in a process that has its libraries.
        window: one of 2,048 tokens.
        answer: to a prompt, in all its ways of decoding.
        forced: to score such an answer.
    """

    loading: float
    window: float
    answer: float
    forced: float

    def of(self, payload: Payload) -> float:
        """Of a shard."""
        match payload:
            case LoadingPayload():
                return 0.001
            case WindowsPayload():
                return self.window * len(payload.windows)
            case NoisePayload():
                # Twice a quarter of each window.
                return self.window * len(payload.windows) / 2
            case GenerationsPayload():
                return self.answer * len(payload.prompts) * payload.repeats
            case TeacherForcedPayload():
                return self.forced * len(payload.prompts)
            case ThroughputPayload():
                return self.answer * payload.repeats
        raise TypeError(f"no length of {payload}")


# Of a Mistral 7B with random weights on an H100, eager and by CUDA graph, answers of 100 tokens:
# 25, 21 and 10 tokens a second eager; 111 and 135 by graph, which LLM.int8 has none of.
H100 = {
    "fp16": Lengths(loading=2.7, window=0.065, answer=100 / 25 + 100 / 111, forced=0.015),
    "nf4": Lengths(loading=6.0, window=0.073, answer=100 / 21 + 100 / 135, forced=0.017),
    "int8": Lengths(loading=21.6, window=0.224, answer=100 / 10, forced=0.060),
}
# A process, its imports and its device.
STARTING_SECONDS = 12.0
# From a call to the actor, and from its result to the driver.
_WAY_SECONDS = 0.003


class SimulatedActor:
    """An `Actor`: a device that works on one thing after the other.

    Attributes:
        free_at: when it will have done all that it was given.
        prepared: when it imported its libraries.
        variant: what it holds.
    """

    def __init__(self, pool: "SimulatedPool") -> None:
        self.prepared = Span(pool.now, pool.now + STARTING_SECONDS)
        self.free_at = self.prepared.ended
        self.variant = ""
        self._pool = pool

    def prepare(self, placement: Placement) -> Call[None]:
        """It does so anyway."""
        return self._pool.ends(self, None)

    def load(self, assignment: Assignment, describe: bool) -> Call[Loaded | None]:
        """Takes as long as the variant's model."""
        self.variant = assignment.variant.name
        span = self._takes(self._pool.lengths[self.variant].loading)
        reference = cast(Reference, "described") if describe else None
        return self._pool.ends(self, Loaded(1, reference, self.prepared, span, "simulated", {}))

    def evaluate(self, payload: Payload) -> Call[Computed]:
        """Takes as long as the variant's shard, and may fail."""
        span = self._takes(self._pool.lengths[self.variant].of(payload))
        computed = Computed(cast(pa.Table, payload), span)
        return self._pool.ends(self, CallFailedError("no luck") if self._pool.fails() else computed)

    def evaluate_and_keep(
        self, payload: ComparedPayload
    ) -> tuple[Call[Computed], Kept[ReferenceStates]]:
        """The same; what is kept is nothing."""
        return self.evaluate(payload), Kept(None)

    def compare(
        self, payload: ComparedPayload, states: Kept[ReferenceStates], reference: Kept[Reference]
    ) -> Call[Computed]:
        """The same."""
        return self.evaluate(payload)

    def _takes(self, seconds: float) -> Span:
        """When it does what takes so long, after all else that it has to do."""
        begin = max(self._pool.now + _WAY_SECONDS, self.free_at)
        self.free_at = begin + seconds
        return Span(begin, self.free_at)


@dataclass(order=True)
class _Ended:
    """A call that ends at a time."""

    at: float
    number: int
    result: Any = field(compare=False)


class SimulatedPool:
    """A `Pool` on a clock of its own.

    Args:
        lengths: by variant.
        failing: the share of shards that fail, after all of their time.
        seed: of which ones do.
        counts_driver: whether the clock goes on while the driver itself works.

    Attributes:
        now: seconds on the clock.
        driver_seconds: what the driver took for itself, by the machine's clock.
    """

    store_bytes = 2**40

    def __init__(
        self,
        lengths: Mapping[str, Lengths],
        failing: float = 0.0,
        seed: int = 0,
        *,
        counts_driver: bool = False,
    ) -> None:
        self.now = 0.0
        self.driver_seconds = 0.0
        self.lengths = lengths
        self._failing = failing
        self._random = random.Random(seed)
        self._counts_driver = counts_driver
        self._calls: list[_Ended] = []
        self._results: dict[Hashable, Any] = {}
        self._callers: dict[int, SimulatedActor] = {}
        self._numbers = 0
        self._stopped: set[SimulatedActor] = set()
        self._left_driver = time.perf_counter()

    def start(self, gpus: int) -> SimulatedActor:
        """A new device, whose process begins to import."""
        return SimulatedActor(self)

    def fails(self) -> bool:
        """Whether the next shard does."""
        return self._random.random() < self._failing

    def ends(self, actor: SimulatedActor, result: Any) -> Call[Any]:
        """A call that ends once its actor is free again."""
        self._numbers += 1
        heapq.heappush(self._calls, _Ended(actor.free_at + _WAY_SECONDS, self._numbers, result))
        self._callers[self._numbers] = actor
        return Call(self._numbers)

    def keep(self, value: T) -> Kept[T]:
        """The value itself."""
        return Kept(value)

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        """The calls that end next; the clock is then there."""
        took = time.perf_counter() - self._left_driver
        self.driver_seconds += took
        if self._counts_driver:
            self.now += took
        ended: list[Call[Any]] = []
        while self._calls and (not ended or self._calls[0].at <= self.now):
            call = heapq.heappop(self._calls)
            if self._callers.pop(call.number) in self._stopped:
                continue
            self.now = max(self.now, call.at)
            self._results[call.number] = call.result
            ended.append(Call(call.number))
        self._left_driver = time.perf_counter()
        return ended

    def result(self, call: Call[T]) -> T:
        """What it returned, or raised."""
        result = self._results.pop(call.name)
        if isinstance(result, Exception):
            raise result
        return cast(T, result)

    def stop(self, actor: Actor) -> None:
        """Ends a device's process; what it was at ends never."""
        assert isinstance(actor, SimulatedActor)
        self._stopped.add(actor)


@dataclass(frozen=True)
class Simulated:
    """A sweep that was simulated."""

    events: list[Event]
    outcome: Outcome
    driver_seconds: float


def wikitext_inputs(times: int = 1, **settings: Any) -> tuple[Settings, Inputs]:
    """As many windows and prompts as a sweep of FP16, LLM.int8 and NF4 over WikiText-2 and the
    suite has, so many times; their tokens are the demo's.
    """
    chosen = Settings(
        model="demo",
        dataset="demo",
        device="cuda",
        variants=("fp16", "int8", "nf4"),
        window_length=16,
        batch_tokens=1,
        max_windows=185,
        **settings,
    )
    read = read_inputs(chosen)
    corpus = replace(read.corpus, windows=Windows.joined([read.corpus.windows] * times))
    looks = (tuple(range(len(corpus.windows))),)
    return chosen, replace(read, corpus=corpus, looks=looks, prompts=read.prompts * times)


def plan_on(devices: int, settings: Settings, inputs: Inputs) -> Plan:
    """A plan on so many GPUs."""
    return make_plan(settings, inputs, Devices("cuda", devices, None, node_cores=devices))


def simulate(plan: Plan, pool: SimulatedPool) -> Simulated:
    """Dispatches a whole plan."""
    events: list[Event] = []
    log = Log(events.append, lambda: pool.now)
    progress = Progress([s.record for s in plan.shards], set(), Console(file=io.StringIO()))
    log(Event(event="run_started"))
    layout = lay_out(plan.settings, plan.inputs, plan.devices)
    prepared = prepare(pool, layout, loads=True, now=pool.now)
    answers = {
        shard.record: {
            "prompt": shard.payload.item_numbers,
            "token_ids": [[1] * shard.payload.max_new_tokens] * shard.record.items,
        }
        for shard in plan.shards
        if isinstance(shard.payload, GenerationsPayload)
    }

    def read(record: ShardRecord) -> Any:
        return pa.table(answers[record])

    dispatcher = Dispatcher(plan, pool, lambda *_: None, read, log, progress, prepared)
    outcome = dispatcher.run(set(), StopRequest())
    log(Event(event="run_ended"))
    return Simulated(events, outcome, pool.driver_seconds)
