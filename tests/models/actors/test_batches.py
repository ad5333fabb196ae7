"""Windows that are run at once: which, and that no figure hangs on how shards are cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from actors.head import StateReader
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import Window
from orchestrator.contract.stages import WindowsPayload
from orchestrator.contract.variant_errors import NoMemoryError, TooLargeError
from orchestrator.contract.variants import VARIANTS, CheckpointVariant
from tests.pipeline import make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_engines import engine_of
from tests.tiny_models import make_tiny_model


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    return {
        **write_inputs(tmp_path, SAMPLE_ROWS),
        "model": str(make_tiny_model(tmp_path / "model")),
        "variants": ("fp16", "int8", "nf4"),
        "window_length": 32,
        "max_windows": 11,
        "max_prompts": 0,
        "results": tmp_path,
    }


def tokens_of(inputs: dict[str, Any], run_id: str, **settings: Any) -> dict[str, Any]:
    """The likelihood and divergence of every token, by variant."""
    run_in_process(make_test_plan(**inputs, run_id=run_id, **settings))
    path = inputs["results"] / run_id / "tables" / "tokens.parquet"
    return {
        variant: {
            name: pq.read_table(path, filters=[("variant", "=", variant)])[name].to_numpy()
            for name in ("negative_log_likelihood", "kl")
        }
        for variant in inputs["variants"]
    }


def test_figures_are_the_same_whatever_the_shards_and_as_of_single_windows(
    inputs: dict[str, Any],
) -> None:
    alone = tokens_of(inputs, "alone", batch_tokens=1, shard_size=4)
    batches = [
        tokens_of(inputs, f"s{size}", batch_tokens=4 * 32, shard_size=size) for size in (1, 3, 50)
    ]
    for variant in inputs["variants"]:
        for name, values in alone[variant].items():
            for found in batches:
                # Bit for bit: the same windows are together.
                np.testing.assert_array_equal(found[variant][name], batches[0][variant][name])
                np.testing.assert_allclose(found[variant][name], values, atol=2e-5)
    # LLM.int8 rounds by what is in a batch, and has each window in one of its own.
    likelihoods = [found["int8"]["negative_log_likelihood"] for found in (alone, batches[0])]
    np.testing.assert_array_equal(*likelihoods)


def forward_shapes(engine: TransformersEngine, payload: WindowsPayload) -> list[tuple[int, ...]]:
    """The inputs of the forward passes that a shard takes."""
    shapes: list[tuple[int, ...]] = []

    def note(_: Any, arguments: Any, keywords: Any) -> None:
        shapes.append(tuple(keywords["input_ids"].shape))

    handle = engine.held.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        engine.evaluate(payload)
    finally:
        handle.remove()
    return shapes


def windows(*lengths: int) -> tuple[Window, ...]:
    return tuple(Window.scored_from(tuple(range(5, 5 + length)), 1) for length in lengths)


def test_windows_of_one_length_that_are_taken_together_are_run_at_once(
    tmp_path: Path,
) -> None:
    engine = engine_of(tmp_path)
    several = windows(8, 8, 8, 8, 8, 8, 9, 5)
    # By their places in the shard, wherever they are in the text.
    payload = WindowsPayload(numbers=(3, 7, 9, 20, 21, 30, 31, 40), windows=several, batch=4)
    assert forward_shapes(engine, payload) == [(4, 8), (2, 8), (1, 9), (1, 5)]
    assert forward_shapes(engine, payload.model_copy(update={"batch": 1})) == [
        (1, len(window.input_ids)) for window in payload.windows
    ]


def test_a_run_without_prompts_says_so(inputs: dict[str, Any]) -> None:
    comparison = run_in_process(make_test_plan(**inputs, run_id="r"))
    assert "## Generation\n\nNo prompt was answered.\n\n## Time" in markdown_of(comparison)


def test_llm_int8_and_models_with_whole_logits_take_one_at_a_time(tmp_path: Path) -> None:
    payload = WindowsPayload(numbers=(0, 1), windows=windows(8, 8), batch=4)
    assert forward_shapes(engine_of(tmp_path / "int8", "int8"), payload) == [(1, 8), (1, 8)]
    plain = engine_of(tmp_path / "plain")
    plain.held.windows._reader.head = None
    assert forward_shapes(plain, payload) == [(1, 8), (1, 8)]


def test_what_quantizes_activations_may_depend_on_neighbours() -> None:
    together = {name for name, variant in VARIANTS.items() if variant.tokens_are_independent}
    assert together == VARIANTS.keys() - {"int8"}
    found = {
        method: CheckpointVariant(
            name="x", weights_dtype="float16", method=method
        ).tokens_are_independent
        for method in (None, "awq", "gptq", "bitsandbytes", "compressed-tensors", "fp8")
    }
    assert {method for method, independent in found.items() if independent} == {None, "awq", "gptq"}


def test_a_batch_that_the_memory_does_not_hold_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tmp_path)

    states_of = StateReader.states_of

    def two_at_most(reader: StateReader, several: Any) -> Any:
        if len(several) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return states_of(reader, several)

    monkeypatch.setattr(StateReader, "states_of", two_at_most)
    with pytest.raises(TooLargeError, match=r"^5 windows at once .* take --batch-tokens 16$"):
        engine.evaluate(WindowsPayload(numbers=(*range(5),), windows=windows(*[8] * 5), batch=8))


def test_a_single_window_that_the_memory_does_not_hold_may_fit_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tmp_path)

    def too_much(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StateReader, "states_of", too_much)
    with pytest.raises(NoMemoryError):
        engine.evaluate(WindowsPayload(numbers=(0, 1), windows=windows(8, 8), batch=4))
