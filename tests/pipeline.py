"""The whole way of the data in one process: the product's own dispatcher, on a pool without Ray."""

import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.actor import ModelActor
from orchestrator.comparison import compare
from orchestrator.comparison_json import Comparison
from orchestrator.contract.errors import CannotLoadError, first_line
from orchestrator.devices import Devices
from orchestrator.inputs import read_inputs
from orchestrator.plan import Plan, PlannedVariant, make_plan, manifest_of
from orchestrator.reduce import join_shards, write_tables
from orchestrator.running.dispatch import Dispatcher
from orchestrator.running.pool import CallFailedError
from orchestrator.running.progress import Progress
from orchestrator.running.stop import StopRequest
from orchestrator.settings import Settings
from orchestrator.store import RunStore, read_manifest

ONE_CORE = Devices("cpu", 1, None, node_cores=1)


class InProcessPool:
    """A pool whose actors are objects of this process; a call works when it is waited for.

    Args:
        make_actor: makes what has the methods of `actors.actor.ModelActor`.

    Attributes:
        started, stopped: the actors, in order.
    """

    def __init__(self, make_actor: Callable[[PlannedVariant], Any]) -> None:
        self._make_actor = make_actor
        self._calls: dict[int, Callable[[], Any]] = {}
        self._next = 0
        self.started: list[Any] = []
        self.stopped: list[Any] = []

    def start(self, planned: PlannedVariant) -> Any:
        actor = self._make_actor(planned)
        self.started.append(actor)
        return actor

    def call(self, actor: Any, method: str, *arguments: Any) -> int:
        assert actor not in self.stopped
        self._next += 1
        self._calls[self._next] = lambda: getattr(actor, method)(*arguments)
        return self._next

    def wait(self, calls: Collection[int], timeout_seconds: float) -> Sequence[int]:
        return [min(calls)]

    def result(self, call: int) -> Any:
        try:
            return self._calls.pop(call)()
        except CannotLoadError:
            raise
        except Exception as error:
            raise CallFailedError(f"{type(error).__name__}: {first_line(error)}") from None

    def stop(self, actor: Any) -> None:
        self.stopped.append(actor)


def model_actor(planned: PlannedVariant) -> ModelActor:
    """A real actor on one core."""
    return ModelActor(
        planned.checkpoint.location, planned.variant, planned.compute_dtype, "cpu", threads=1
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
    with RunStore(plan.settings.results, manifest_of(plan)) as store:
        pool = InProcessPool(model_actor)
        dispatcher = Dispatcher(plan, pool, store.commit, quiet_progress(plan))
        outcome = dispatcher.run(plan.shards, StopRequest())
        assert not outcome.abandoned
        store.finish()
    return read_comparison(store.folder)


def read_comparison(folder: Path) -> Comparison:
    """Reduces a run's folder."""
    manifest = read_manifest(folder)
    tables = join_shards(folder, manifest)
    write_tables(folder, tables)
    return compare(tables, manifest)


def write_inputs(folder: Path, rows: list[str], prompts: int = 4) -> dict[str, str]:
    """Writes rows and prompts as files; the settings that name them."""
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
