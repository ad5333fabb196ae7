"""The whole way of the data in one process: the product's own dispatcher, on a pool without Ray."""

import io
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from rich.console import Console

from actors.actor import ModelActor
from orchestrator.comparison_schema import Comparison
from orchestrator.contract.shards import Assignment, DeviceKind, ModelLocation, OneDevice
from orchestrator.contract.variants import VARIANTS, DtypeName
from orchestrator.gates.chosen import GateSettings
from orchestrator.gates.verdicts import Judgement, judge
from orchestrator.inputs.sources import read_inputs
from orchestrator.integrity.remembered import Audits
from orchestrator.planning.devices import Devices
from orchestrator.planning.plan import Plan, make_plan, manifest_of
from orchestrator.report.contents import Report
from orchestrator.report.markdown import render_markdown
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.in_process import InProcessActor, InProcessPool
from orchestrator.running.log import Log
from orchestrator.running.pool import Actor, Call, Kept
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.runs.finished import reduce_run
from orchestrator.settings import Settings
from orchestrator.storage.events import Event
from orchestrator.storage.reduce import write_tables
from orchestrator.storage.results_folder import ResultsFolder, run_at
from orchestrator.storage.run_folder import RunFolder
from orchestrator.storage.store import RunStore


@dataclass(frozen=True)
class FinishedRun:
    """A run with all of its shards."""

    folder: Path
    comparison: Comparison


ONE_CORE = Devices("cpu", 1, None, node_cores=1)


class RecordingPool(InProcessPool):
    """The product's pool of this process, and what became of its actors.

    Args:
        make_actor: makes what has the methods of `actors.actor.ModelActor`.
        next_call: which of the calls in flight, by number, ends next; the oldest, unless said
            otherwise.

    Attributes:
        started, stopped: the actors, in order.
        gpus: how many each was started with.
        kept_values: those that somebody still holds.
        store_bytes: room for them.
    """

    store_bytes = 2**30

    def __init__(
        self,
        make_actor: Callable[[], Any],
        next_call: Callable[[Sequence[int]], int] = min,
    ) -> None:
        super().__init__(make_actor)
        self._next_call = next_call
        self.started: list[Any] = []
        self.stopped: list[Any] = []
        self.gpus: dict[Any, int] = {}
        self.kept_values: WeakSet[Kept[Any]] = WeakSet()

    def start(self, gpus: int) -> InProcessActor:
        actor = super().start(gpus)
        self.gpus[actor.actor] = gpus
        self.started.append(actor.actor)
        return actor

    def room(self) -> Kept[Any]:
        kept = super().room()
        self.kept_values.add(kept)
        return kept

    def wait(self, calls: Collection[Call[Any]], timeout_seconds: float) -> Sequence[Call[Any]]:
        return [Call(self._next_call(sorted(int(str(call.name)) for call in calls)))]

    def stop(self, actor: Actor) -> None:
        assert isinstance(actor, InProcessActor)
        self.stopped.append(actor.actor)
        super().stop(actor)


def assignment(
    location: ModelLocation, variant: str, dtype: DtypeName = "float32", device: DeviceKind = "cpu"
) -> Assignment:
    """What an actor of a known variant is told."""
    return Assignment(
        location=location,
        variant=VARIANTS[variant],
        compute_dtype=dtype,
        placement=OneDevice(device=device),
        threads=1,
    )


def make_test_plan(**settings: Any) -> Plan:
    """A plan on one core."""
    chosen = Settings(**settings)
    return make_plan(chosen, read_inputs(chosen), ONE_CORE)


def quiet_progress(plan: Plan, said: io.StringIO | None = None) -> Progress:
    """Progress that is not shown."""
    records = [shard.record for shard in plan.shards]
    return Progress(records, set(), Console(file=said or io.StringIO()))


def run_in_process(plan: Plan) -> Comparison:
    """Runs a whole plan with real models in this process."""
    comparison, given_up = run_as_far_as_it_goes(plan)
    assert not given_up
    return comparison


def run_as_far_as_it_goes(plan: Plan) -> tuple[Comparison, set[str]]:
    """The same of a plan that may not work out, and why shards of it were given up."""
    with RunStore(ResultsFolder.at(plan.settings.results), manifest_of(plan)) as store:
        store.set_aside_damaged()
        pool = RecordingPool(ModelActor)
        progress = quiet_progress(plan)
        dispatcher = Dispatcher(plan, pool, store.commit, store.read, Log(store.log), progress)
        outcome = dispatcher.run(store.finished(), StopRequest())
        if not outcome.abandoned:
            store.finish()
        store.keep_audits(Audits(plan.inputs.checkpoints).by_content)
        store.log(Event(event="run_ended"))
        comparison = reduced(store.folder)
    return comparison, {reason for _, reason in outcome.abandoned}


def read_comparison(folder: Path) -> Comparison:
    """Reduces a run in a folder."""
    return reduced(run_at(folder))


def reduced(folder: RunFolder) -> Comparison:
    """Reduces a run, and writes its tables."""
    run = reduce_run(folder)
    write_tables(folder, run.tables)
    return run.comparison


def judgement_of(comparison: Comparison, *gates: str) -> Judgement:
    """How a comparison does by gates; by those of a recommendation unless some are given."""
    chosen = GateSettings(gate=gates)
    return judge(comparison, chosen.chosen(), asked=chosen.asked)


def markdown_of(comparison: Comparison) -> str:
    """Its report, without gates of its own."""
    return render_markdown(Report(comparison, judgement_of(comparison)))


def write_inputs(folder: Path, rows: list[str], prompts: int = 4) -> dict[str, str]:
    """Writes rows and prompts as files; the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    suite = folder / "prompts.jsonl"
    suite.write_text(
        "".join(
            json.dumps({"id": f"p{n}", "category": "AB"[n % 2], "text": f"Say {n} words"}) + "\n"
            for n in range(prompts)
        )
    )
    return {"dataset": str(data), "prompts": str(suite)}
