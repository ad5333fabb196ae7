"""The whole way of the data without Ray: the same plan, engines, store and comparison."""

import json
from pathlib import Path
from typing import Any

from actors.engine import Engine
from orchestrator.comparison import compare
from orchestrator.devices import Devices
from orchestrator.interface import Comparison
from orchestrator.plan import Plan, make_plan
from orchestrator.reduce import reduce_run
from orchestrator.settings import Settings
from orchestrator.store import RunStore, manifest_of, read_manifest
from orchestrator.sweep import read_inputs

ONE_CORE = Devices("cpu", 1, None, node_cores=1)


def make_test_plan(**settings: Any) -> Plan:
    """A plan on one core."""
    chosen = Settings(**settings)
    return make_plan(chosen, read_inputs(chosen), ONE_CORE)


def run_in_process(plan: Plan) -> Comparison:
    """Runs a plan's shards one after another in this process."""
    engines: dict[str, Engine] = {}
    with RunStore(plan.settings.results, manifest_of(plan)) as store:
        for planned in plan.variants:
            engine = Engine(
                plan.inputs.model.location, planned.variant, planned.compute_dtype, "cpu", 1
            )
            engines[planned.variant.name] = engine
        for shard in plan.shards:
            engine = engines[shard.variant]
            table = engine.load() if shard.work.stage == "memory" else engine.evaluate(shard.work)
            store.commit(shard, table)
        store.finish()
    return read_comparison(store.folder)


def read_comparison(folder: Path) -> Comparison:
    """Reduces a run's folder."""
    manifest = read_manifest(folder)
    return compare(reduce_run(folder, manifest), manifest)


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
