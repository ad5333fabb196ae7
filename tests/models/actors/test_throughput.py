"""Batches: what is decoded, what is measured of it, and what cannot be had."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.decoding import EagerDecoder, prepare_generation
from actors.graph_decoding import GraphDecoder
from orchestrator.contract.shards import Prompt
from orchestrator.contract.stages import STAGES, ThroughputPayload
from orchestrator.errors import BadInputError
from orchestrator.figures.latency import throughput_of
from orchestrator.figures.sample import Units
from orchestrator.planning.pieces import batch_of
from orchestrator.settings_layers import resolve_settings
from tests.pipeline import make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_engines import engine_of
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
BATCH = tuple(tuple(range(first, first + 9)) for first in (40, 60, 80))


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    size=st.integers(1, 20),
)
def test_a_batch_is_of_the_prompts_all_of_their_mean_length(lengths: list[int], size: int) -> None:
    prompts = [
        Prompt(id=str(n), category="c", input_ids=tuple(range(100 * n, 100 * n + length)))
        for n, length in enumerate(lengths)
    ]
    batch = batch_of(prompts, size)
    length = -(-sum(lengths) // len(lengths))
    assert [len(ids) for ids in batch] == [length] * size
    for number, ids in enumerate(batch):
        own = prompts[number % len(prompts)].input_ids
        assert ids == tuple(own[place % len(own)] for place in range(length))


def test_a_batch_says_what_its_prompts_say_alone(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prepare_generation(model, AutoTokenizer.from_pretrained(folder))
    # Whatever would end an answer.
    model.generation_config.eos_token_id = list(range(200))
    eager, graph = EagerDecoder(model, CPU), GraphDecoder(model, CPU, capture=False)
    graph.prepare(9 + 12, batch=3)
    found = [decoder.decode_batch(BATCH, 12) for decoder in (eager, graph)]
    assert model.generation_config.eos_token_id == list(range(200))
    model.generation_config.eos_token_id = None
    expected = [eager.decode(prompt, 12).token_ids for prompt in BATCH]
    for decoded in found:
        assert decoded.token_ids == expected
        assert len(decoded.step_seconds) == 12
        assert min(decoded.step_seconds) > 0


def test_the_rows_of_a_batch(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    payload = ThroughputPayload(prompts=BATCH, new_tokens=5, decodings=("eager",), repeats=2)
    table = engine.evaluate(payload)
    assert table.schema.equals(STAGES["throughput"].schema)
    assert len(table) == payload.items == 2
    config = engine.held.model.config
    # Keys and values in float32, of 9 tokens of each prompt and all new ones but the last.
    a_token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    for repeat, row in enumerate(table.to_pylist()):
        assert (row["batch_size"], row["repeat"], row["prompt_tokens"]) == (3, repeat, 9)
        assert row["seconds"] > row["time_to_first_token_seconds"] > 0
        assert row["cache_bytes"] == 3 * (9 + 4) * a_token
        assert row["problem"] is None


def test_what_the_memory_does_not_hold_is_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tmp_path)

    def too_much(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(EagerDecoder, "decode_batch", too_much)
    payload = ThroughputPayload(prompts=BATCH, new_tokens=5, decodings=("eager",), repeats=2)
    rows = engine.evaluate(payload).to_pylist()
    assert [row["problem"] for row in rows] == ["the device's memory does not hold it"] * 2
    assert [row["seconds"] for row in rows] == [None, None]
    monkeypatch.undo()
    assert engine.evaluate(payload).to_pylist()[0]["problem"] is None


def test_llm_int8_says_why_no_graph_holds_it(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, "int8")
    both = ThroughputPayload(prompts=BATCH, new_tokens=3, decodings=("eager", "graph"), repeats=1)
    eager, graph = engine.evaluate(both).to_pylist()
    assert eager["seconds"] > 0
    assert graph["problem"].startswith("LLM.int8 chooses columns by their values")


def rows_of(**columns: list[Any]) -> pa.Table:
    """A table `throughput` of batches of 8 prompts of 10 tokens with 5 new ones."""
    count = len(columns["seconds"])
    constant = {
        "variant": "v",
        "batch_size": 8,
        "decoding": "eager",
        "prompt_tokens": 10,
        "new_tokens": 5,
        "cache_bytes": 1000,
    }
    rows = [
        {**constant, "repeat": n, **{name: values[n] for name, values in columns.items()}}
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=STAGES["throughput"].schema)


def test_figures_worked_by_hand() -> None:
    (found,) = throughput_of(
        rows_of(
            seconds=[1.0, 3.0],
            time_to_first_token_seconds=[0.2, 0.6],
            device_peak_bytes=[7, 9],
        ),
        Units(0.95),
    )
    assert found.tokens_per_second.value == pytest.approx(8 * 5 / 2)
    assert found.tokens_per_second.n == 2
    assert found.step_seconds == pytest.approx((0.8 + 2.4) / 2 / 4)
    assert found.device_peak_bytes == 9
    nothing = rows_of(seconds=[None], time_to_first_token_seconds=[None], problem=["too big"])
    (none,) = throughput_of(nothing, Units(0.95))
    assert none.tokens_per_second.value is None
    assert none.problem == "too big"


def test_a_run_with_batches_shows_them_and_one_without_does_not(tmp_path: Path) -> None:
    given = {
        **write_inputs(tmp_path, SAMPLE_ROWS),
        "model": str(make_tiny_model(tmp_path / "model")),
        "variants": ("fp16", "nf4"),
        "max_windows": 1,
        "max_new_tokens": 4,
        "results": tmp_path,
    }
    comparison = run_in_process(make_test_plan(**given, batch_sizes=(1, 3)))
    assert comparison.complete
    for variant in ("fp16", "nf4"):
        found = comparison.variants[variant].throughput
        assert [(part.batch_size, part.decoding) for part in found] == [(1, "eager"), (3, "eager")]
        assert all(part.tokens_per_second.value for part in found)
    page = markdown_of(comparison)
    assert "### Throughput" in page
    assert "| nf4 | 3 | eager |" in page
    without = run_in_process(make_test_plan(**given))
    assert without.variants["fp16"].throughput == []
    assert "### Throughput" not in markdown_of(without)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"batch_sizes": (1, 8, 1)}, "--batch-sizes: a batch size is named twice"),
        ({"batch_sizes": (0,)}, "--batch-sizes: Input should be greater than or equal to 1"),
    ],
)
def test_impossible_batches_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        resolve_settings(given)


def test_batches_need_prompts(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--batch-sizes: batches are of prompts"):
        make_test_plan(
            **write_inputs(tmp_path, SAMPLE_ROWS),
            model=str(make_tiny_model(tmp_path / "model")),
            max_prompts=0,
            batch_sizes=(1,),
        )
