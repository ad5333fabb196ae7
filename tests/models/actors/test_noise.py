"""The noise floor: which windows, in which other order, and what is measured of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from actors.noise import attention_by, other_order_of
from actors.worst_token_texts import decoder, worst_token_lists
from orchestrator.contract.shards import Window
from orchestrator.contract.tables import WORST_TOKENS
from orchestrator.planning.pieces import noise_payloads
from tests import oracle
from tests.pipeline import make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model


@given(st.lists(st.integers(1, 700), max_size=40))
def test_its_windows_are_the_first_tokens_of_some_spread_over_those_that_are_scored(
    lengths: list[int],
) -> None:
    windows = [window_of(length) for length in lengths]
    # Every other one is.
    numbers = range(0, len(windows), 2)
    usable = [number for number in numbers if lengths[number] > 1]
    payloads = noise_payloads(windows, numbers)
    assert len(payloads) == (1 if usable else 0)
    for payload in payloads:
        count = len(payload.numbers)
        assert len(payload.windows) == count
        assert min(2, len(usable)) <= count <= 8
        assert payload.numbers == tuple(
            usable[place * len(usable) // count] for place in range(count)
        )
        for number, window in zip(payload.numbers, payload.windows, strict=True):
            assert min(128, lengths[number]) <= len(window.input_ids) <= min(512, lengths[number])
            assert window.target_ids == window.input_ids[1:]
            assert window.start == 0


def window_of(length: int) -> Window:
    return Window(input_ids=(1,) * length, target_ids=(1,), start=length - 1)


@pytest.mark.parametrize(
    ("windows", "length", "expected"),
    [
        # Of little text the least that says anything: two windows of 128 tokens.
        (1, 2048, (1, 128)),
        (2, 2048, (2, 128)),
        (12, 512, (2, 153)),
        (12, 2048, (8, 153)),
        (40, 2048, (8, 512)),
        (149, 2048, (8, 512)),
    ],
)
def test_both_passes_read_at_most_a_tenth_of_what_the_windows_read(
    windows: int, length: int, expected: tuple[int, int]
) -> None:
    (payload,) = noise_payloads([window_of(length)] * windows, range(windows))
    assert (len(payload.windows), len(payload.windows[0].input_ids)) == expected
    if expected != (2, 128) and windows > 1:
        assert payload.timed_tokens <= 0.1 * windows * length


@pytest.mark.parametrize(
    ("architecture", "kernel", "expected"),
    [
        ("mistral", "sdpa", "its attention by another kernel, eager in place of sdpa"),
        ("falcon-h1", "sdpa", "its attention by another kernel, eager in place of sdpa"),
        ("mistral", "eager", "two copies in a batch"),
        ("mamba", None, "two copies in a batch"),
    ],
)
def test_the_other_order_is_one_that_the_model_has(
    architecture: str, kernel: str | None, expected: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, architecture)
    options = {} if kernel is None else {"attn_implementation": kernel}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    other = other_order_of(model)
    assert other.name == expected
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        before = model(ids).logits
        with attention_by(model, other.attention):
            again = model(ids.repeat(other.copies, 1)).logits[:1]
        after = model(ids).logits
    # The model computes the same, and is left as it was.
    torch.testing.assert_close(again, before, atol=1e-4, rtol=1e-4)
    assert torch.equal(after, before)


def test_the_model_has_its_own_attention_again_after_an_error(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    with pytest.raises(ValueError, match="never"), attention_by(model, "eager"):
        raise ValueError("never")
    assert model.config._attn_implementation == "sdpa"


def test_the_reference_alone_is_measured_and_as_computed_from_full_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another order whose floor shows: attention that is a little flatter.
    def flatter(*args: Any, scaling: float, **more: Any) -> Any:
        return sdpa_attention_forward(*args, scaling=0.7 * scaling, **more)

    AttentionInterface.register("flatter", flatter)
    AttentionMaskInterface.register("flatter", sdpa_mask)
    monkeypatch.setattr("actors.noise._PLAIN_ATTENTION", "flatter")
    folder = make_tiny_model(tmp_path / "model", "mistral")
    plan = make_test_plan(
        model=str(folder),
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        variants=("fp16", "bf16"),
        max_windows=10,
        max_prompts=0,
        window_length=80,
        results=tmp_path,
        run_id="r",
    )
    assert [shard.record.variant for shard in plan.shards if shard.record.stage == "noise"] == [
        "fp16"
    ]
    comparison = run_in_process(plan)
    models = [
        AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float16, attn_implementation=kernel
        )
        .float()
        .eval()
        for kernel in ("sdpa", "flatter")
    ]
    payload = noise_payloads(plan.inputs.corpus.windows, plan.inputs.looks[0])[0]
    expected = []
    for window in payload.windows:
        with torch.no_grad():
            p, q = (m(torch.tensor([window.input_ids])).logits[0, :-1].double() for m in models)
        expected.append(oracle.token_measures(p, q, list(window.target_ids)))
    floor = comparison.noise_floor
    assert floor
    kl = np.concatenate([part["kl"] for part in expected])
    assert floor.kl.value == pytest.approx(kl.mean(), rel=1e-3, abs=1e-8)
    assert kl.mean() > 1e-5
    assert len(payload.windows) == 2
    tables = tmp_path / "r" / "tables"
    rows = pq.read_table(tables / "noise.parquet").to_pylist()
    assert [row["window"] for row in rows] == list(payload.numbers)
    assert {row["other_order"] for row in rows} == {
        "its attention by another kernel, flatter in place of sdpa"
    }
    tokens = pq.read_table(tables / "noise_tokens.parquet")
    np.testing.assert_allclose(tokens["kl"].to_numpy(), kl, atol=1e-6)


def letters(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are letters; some stand for no text."""
    return "".join(chr(ord("a") + token) for token in ids if token < 26)


def test_worst_tokens_are_those_of_the_whole_shard_each_in_its_window() -> None:
    windows = [
        Window(input_ids=tuple(range(10)), target_ids=tuple(range(5, 10)), start=4),
        Window.scored_from(tuple(n % 26 for n in range(41)), 1),
    ]
    generator = np.random.default_rng(0)
    kl = np.float32(generator.uniform(0, 1, 45))
    kl[2], kl[20] = 5, np.nan
    columns = {
        "kl": kl,
        "reference_top_token": np.full(45, 3),
        "top_token": np.full(45, 30),
    }
    lists = worst_token_lists(windows, columns, letters).to_pylist()
    assert sum(map(len, lists)) == WORST_TOKENS
    # The third scored token of the first window stands at 7.
    first = {record["position"]: record for record in lists[0]}[7]
    assert first == {
        "position": 7,
        "context": "abcdefg",
        "token_text": "h",
        "reference_top_token_text": "d",
        # It stands for no text.
        "top_token_text": "<30>",
    }
    positions = [5 + n for n in range(5)] + [1 + n for n in range(40)]
    chosen = np.argsort(-np.nan_to_num(kl, nan=-1), kind="stable")[:WORST_TOKENS]
    told = [(0, r["position"]) for r in lists[0]] + [(1, r["position"]) for r in lists[1]]
    assert told == sorted((int(place >= 5), positions[place]) for place in chosen)
    assert all(len(record["context"]) <= 32 for record in lists[1])


def test_a_token_s_text_keeps_the_space_that_it_begins_with(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path))
    ids = tuple(tokenizer("The bridge at Harrow was rebuilt in March .")["input_ids"])
    window = Window.scored_from(ids, 1)
    count = len(window.target_ids)
    columns = {
        "kl": np.arange(count, dtype=np.float32),
        "reference_top_token": np.array(window.target_ids),
        "top_token": np.array(window.target_ids),
    }
    (records,) = worst_token_lists([window], columns, decoder(tokenizer)).to_pylist()
    for record in records:
        whole = tokenizer.decode(ids[: record["position"] + 1])
        assert record["context"] + record["token_text"] == whole
        assert record["token_text"] == record["top_token_text"]
