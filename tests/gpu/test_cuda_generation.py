"""Both ways of decoding on a real GPU; skipped where there is none."""

from pathlib import Path
from typing import Any

import pytest
import torch

from actors.device_memory import is_free
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import Prompt
from orchestrator.contract.stages import GenerationsPayload, LoadingPayload, ThroughputPayload
from orchestrator.contract.variants import VARIANTS, DtypeName
from orchestrator.inputs.models import resolve_model
from tests.pipeline import assignment
from tests.tiny_models import edit_json, make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

BOTH = ("eager", "graph")


def answers(folder: Path, name: str, dtype: DtypeName, limit: int = 24) -> list[dict[str, Any]]:
    """The rows of prompts of unlike lengths, answered both ways, twice each."""
    engine = TransformersEngine(
        assignment(resolve_model(str(folder), None).checkpoint.location, name, dtype, "cuda")
    )
    prompts = tuple(
        Prompt(id=str(n), category="c", input_ids=tuple(range(40, 40 + length)))
        for n, length in enumerate((40, 3, 12))
    )
    payload = GenerationsPayload(
        first_item=0, prompts=prompts, max_new_tokens=limit, decodings=BOTH, repeats=2
    )
    rows: list[dict[str, Any]] = engine.evaluate(payload).to_pylist()
    return rows


def check_times(row: dict[str, Any]) -> None:
    for timing in row["timings"]:
        parts = [timing["time_to_first_token_seconds"], *timing["token_seconds"]]
        assert len(parts) == timing["new_tokens"]
        assert min(parts) > 0
        assert timing["seconds"] == pytest.approx(sum(parts), rel=1e-9)


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "nf4", "nf4-dq", "fp4"])
def test_a_captured_step_says_what_generate_says(name: str, tmp_path: Path) -> None:
    rows = answers(make_tiny_model(tmp_path), name, VARIANTS[name].weights_dtype)
    for row in rows:
        assert row["graph_refusal"] is None
        assert [(t["decoding"], t["repeat"]) for t in row["timings"]] == [
            (decoding, repeat) for decoding in BOTH for repeat in range(2)
        ]
        assert all(timing["same_tokens"] for timing in row["timings"])
        check_times(row)


@pytest.mark.parametrize(
    ("architecture", "window"),
    [("mistral", None), ("mistral", 8), ("llama", None), ("qwen2", None), ("gemma2", 8)],
)
def test_every_architecture_is_captured_whatever_slides(
    architecture: str, window: int | None, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, architecture=architecture)
    if window is not None:
        edit_json(folder / "config.json", sliding_window=window)
    # In float32 no two tokens are as near as rounding.
    for row in answers(folder, "fp32", "float32"):
        assert row["graph_refusal"] is None
        assert all(timing["same_tokens"] for timing in row["timings"])


def test_llm_int8_stays_eager_and_says_why(tmp_path: Path) -> None:
    for row in answers(make_tiny_model(tmp_path), "int8", "float16"):
        assert row["graph_refusal"].startswith("LLM.int8 chooses columns by their values")
        assert {timing["decoding"] for timing in row["timings"]} == {"eager"}
        check_times(row)


def test_experts_that_cannot_be_captured_stay_eager_and_the_device_goes_on(tmp_path: Path) -> None:
    """Whether they can hangs on the library's kernels; either way answers come."""
    rows = answers(make_tiny_model(tmp_path, architecture="mixtral"), "fp16", "float16")
    for row in rows:
        assert row["success"]
        found = {timing["decoding"] for timing in row["timings"]}
        assert found == ({"eager"} if row["graph_refusal"] else {"eager", "graph"})


def test_what_a_token_reads_and_how_fast_that_could_be_is_measured(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    location = resolve_model(str(folder), None).checkpoint.location
    engine = TransformersEngine(assignment(location, "fp16", "float16", "cuda"))
    loading = engine.evaluate(LoadingPayload()).to_pylist()[0]
    assert 0 < loading["read_weights_bytes"] <= loading["running_weights_bytes"]
    config = engine.held.model.config
    heads = config.num_key_value_heads * config.head_dim
    assert loading["cache_bytes_per_token"] == 2 * 2 * config.num_hidden_layers * heads
    # No card that runs this has a memory slower than 50 GB/s or faster than 50 TB/s.
    assert 5e10 < loading["device_copy_bytes_per_second"] < 5e13


@pytest.mark.parametrize("name", ["fp16", "nf4", "int8"])
def test_batches_are_decoded_both_ways_and_their_memory_is_their_own(
    name: str, tmp_path: Path
) -> None:
    location = resolve_model(str(make_tiny_model(tmp_path)), None).checkpoint.location
    # Other tests' engines may wait for the collector.
    assert is_free("cuda")
    engine = TransformersEngine(assignment(location, name, "float16", "cuda"))
    peaks = []
    for size in (1, 64):
        payload = ThroughputPayload(
            prompts=(tuple(range(40, 60)),) * size, new_tokens=30, decodings=BOTH, repeats=2
        )
        rows = engine.evaluate(payload).to_pylist()
        for row in rows:
            if name == "int8" and row["decoding"] == "graph":
                assert row["problem"].startswith("LLM.int8")
                continue
            assert row["problem"] is None
            assert row["seconds"] > row["time_to_first_token_seconds"] > 0
        peaks.append(rows[0]["device_peak_bytes"])
    assert peaks[1] > peaks[0]
    # The products' scratch memory of one stream may be there, no cache of a batch.
    assert torch.cuda.max_memory_allocated() <= peaks[0] + 2**20
