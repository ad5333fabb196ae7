"""Reference and candidates on real Ray: one device in turns, several side by side, what is lost."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from transformers import AutoTokenizer

from orchestrator.contract.exchange import TensorData
from orchestrator.running.pool import CallFailedError, ValueLostError
from orchestrator.running.ray_pool import RayActor, RayPool
from orchestrator.settings import Settings
from tests import oracle
from tests.commands import run_cli
from tests.sample_rows import SAMPLE_ROWS

SMALL = ["--max-prompts", "0", "--max-windows", "8", "--shard-size", "2", "--batch-tokens", "256"]


def events_in(results: Path) -> list[dict[str, Any]]:
    (path,) = results.glob("*/events.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def divergences_in(results: Path) -> dict[str, Any]:
    (path,) = results.glob("*/comparison.json")
    variants = json.loads(path.read_text())["variants"]
    return {
        name: {key: figures[key] for key in ("kl", "same_top_token", "perplexity_ratio")}
        for name, figures in variants.items()
    }


@pytest.fixture(scope="module")
def several(tiny_sweep: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a sweep with an actor a core."""
    results = tmp_path_factory.mktemp("several")
    process = run_cli([*tiny_sweep, *SMALL, "--variants", "int8", "--results", str(results)])
    assert process.returncode == 0, process.stderr
    return results


def test_several_actors_side_by_side_forward_each_window_once(several: Path) -> None:
    events = events_in(several)
    computed = Counter(e["shard"] for e in events if e["event"] == "shard_computed")
    assert set(computed.values()) == {1}
    (manifest,) = several.glob("*/run.json")
    planned = json.loads(manifest.read_text())["shards"]
    assert len(computed) == len(planned)
    # Another was loaded before the reference was done.
    kinds = [(event["event"], event.get("variant")) for event in events]
    assert kinds.index(("actor_started", "nf4")) < kinds.index(("actor_stopped", "fp16"))
    kl = {name: figures["kl"] for name, figures in divergences_in(several).items()}
    assert kl["fp16"] is None
    assert kl["nf4"]["mean"]["interval"][0] > kl["int8"]["mean"]["interval"][1] > 0


def test_every_token_s_divergence_is_that_of_both_models_in_one_process(
    tiny_sweep: list[str], several: Path
) -> None:
    folder = Path(tiny_sweep[tiny_sweep.index("--model") + 1])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    windows = oracle.plan(tokenizer, SAMPLE_ROWS, "concat", length=128).windows
    # Eight, from every eighth of the text the first.
    planned = [windows[eighth * len(windows) // 8] for eighth in range(8)]
    (path,) = several.glob("*/tables/tokens.parquet")
    reference = oracle.load_model(folder, "fp16")
    for variant in ("int8", "nf4"):
        candidate = oracle.load_model(folder, variant)
        expected = []
        for window in planned:
            scored = slice(window.first_output, window.first_output + len(window.targets))
            with torch.no_grad():
                p, q = (
                    model(torch.tensor([window.inputs])).logits[0, scored].double().numpy()
                    for model in (reference, candidate)
                )
            expected.append(oracle.token_measures(p, q, window.targets)["kl"])
        found = pq.read_table(path, filters=[("variant", "=", variant)])["kl"].to_numpy()
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_one_device_takes_turns_with_little_room_and_gives_the_same_figures(
    tiny_sweep: list[str], several: Path, tmp_path: Path
) -> None:
    results = tmp_path / "one"
    room = ["--reference-bytes", "140KiB"]
    process = run_cli([*tiny_sweep, *SMALL, *room, "--results", str(results)], cores=1)
    assert process.returncode == 0, process.stderr
    events = events_in(results)
    computed = Counter(e["shard"] for e in events if e["event"] == "shard_computed")
    assert set(computed.values()) == {1}
    at_work = 0
    for event in events:
        at_work += {"actor_started": 1, "actor_stopped": -1}.get(event["event"], 0)
        assert at_work <= 1
    started = [event["variant"] for event in events if event["event"] == "actor_started"]
    assert started == ["fp16", "nf4", "fp16", "nf4"]
    assert divergences_in(results)["nf4"] == divergences_in(several)["nf4"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A node of this process, and one more that can be taken away."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": quick})
    try:
        ray.init(address=started.address, log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


def test_what_a_lost_node_held_is_told_apart_from_failures(cluster: Cluster) -> None:
    class Holder:
        """Has states, and adds up those of others."""

        def evaluate_and_keep(self, payload: object) -> tuple[str, TensorData]:
            import numpy as np

            return "a table", TensorData(np.ones(2**20, dtype=np.float16), "float16")

        def compare(self, payload: object, states: TensorData, reference: object) -> float:
            return float(states.values.sum(dtype="float32"))

    node = cluster.add_node(num_cpus=1, resources={"away": 1})
    cluster.wait_for_nodes()
    pool: Any = RayPool(threads=1, name="r")
    assert pool.store_bytes > 2**20
    here: Any = RayActor(ray.remote(Holder).options(num_cpus=1).remote())
    away: Any = RayActor(ray.remote(Holder).options(num_cpus=1, resources={"away": 1}).remote())
    reference = pool.keep("described")
    call, near = here.evaluate_and_keep("a payload")
    assert pool.result(call) == "a table"
    call, far = away.evaluate_and_keep("a payload")
    assert pool.result(call) == "a table"
    assert pool.result(here.compare("a payload", near, reference)) == 2**20
    cluster.remove_node(node, allow_graceful=False)
    with pytest.raises(ValueLostError):
        pool.result(here.compare("a payload", far, reference))
    # The actor is as well as before.
    assert pool.result(here.compare("a payload", near, reference)) == 2**20
    with pytest.raises(CallFailedError) as caught:
        pool.result(away.evaluate_and_keep("a payload")[0])
    assert caught.value.kind == "node"


def test_room_is_said_in_units() -> None:
    assert Settings(reference_bytes="4GiB").reference_bytes == 4 * 2**30  # type: ignore[arg-type]
