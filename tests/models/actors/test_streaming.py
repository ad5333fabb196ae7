"""A model whose layers come to the device one after the other says what one says that is there."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from actors.streaming import stream_layers
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import OneDevice, Prompt, Streamed, Window
from orchestrator.contract.stages import (
    STREAMED,
    GenerationsPayload,
    NoisePayload,
    TeacherForcedPayload,
    WindowsPayload,
)
from orchestrator.contract.variant_errors import CannotLoadError
from tests.tiny_engines import engine_at
from tests.tiny_models import edit_json, make_tiny_model, save_random_model

CPU = torch.device("cpu")
HERE = Streamed(device="cpu")


def random_ids(count: int, seed: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, 500, (count,), generator=generator).tolist())


WINDOWS = WindowsPayload(
    numbers=(0, 1, 2, 3),
    windows=tuple(Window.scored_from(random_ids(n, n), 1) for n in (40, 41, 41, 17)),
    batch=2,
)
NOISE = NoisePayload(numbers=(0, 1), windows=WINDOWS.windows[:2])
PROMPTS = tuple(
    Prompt(id=f"p{n}", category="A", input_ids=random_ids(length, n))
    for n, length in enumerate((9, 30, 14))
)
ANSWERED = TeacherForcedPayload(first_item=0, prompts=PROMPTS, max_new_tokens=8).with_answers(
    [random_ids(8, seed) for seed in range(3)]
)
TOGETHER = GenerationsPayload(first_item=0, prompts=PROMPTS, max_new_tokens=8, placement=STREAMED)


def make_model(folder: Path, architecture: str) -> Path:
    if architecture != "gpt2":
        return make_tiny_model(folder / "model", architecture, tied=architecture == "llama")
    config = GPT2Config(
        vocab_size=512, n_embd=64, n_layer=3, n_head=4, n_positions=128, bos_token_id=0
    )
    return save_random_model(config, folder / "gpt2", make_tiny_model(folder / "tokenizer"))


def tokens_of(engine: TransformersEngine) -> list[pa.ChunkedArray]:
    """What it makes of windows, twice, since layers are elsewhere the second time; of its noise
    floor, and of answers.
    """
    return [engine.evaluate(each)["tokens"] for each in (WINDOWS, WINDOWS, NOISE, ANSWERED)]


def held_whole(folder: Path) -> TransformersEngine:
    return engine_at(folder, OneDevice(device="cpu"))


@pytest.mark.parametrize(
    "architecture", ["mistral", "llama", "qwen2", "gemma2", "mixtral", "falcon-h1", "gpt2"]
)
def test_all_that_is_scored_is_the_same_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path, architecture)
    whole, streamed = held_whole(folder), engine_at(folder, HERE)
    assert tokens_of(streamed) == tokens_of(whole)
    answers = [engine.evaluate(TOGETHER)["token_ids"] for engine in (whole, streamed)]
    assert answers[0] == answers[1]
    of_weights = [
        {name: engine.held.loading[name] for name in engine.held.loading if "bytes" in name}
        for engine in (whole, streamed)
    ]
    assert of_weights[0] == of_weights[1]


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_however_many_layers_there_are(layers: int, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    config = AutoModelForCausalLM.from_pretrained(folder).config
    config.num_hidden_layers = layers
    other = save_random_model(config, tmp_path / "other", folder)
    assert tokens_of(engine_at(other, HERE)) == tokens_of(held_whole(other))


def test_a_pass_that_broke_off_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "gpt2")
    whole, streamed = held_whole(folder), engine_at(folder, HERE)
    layers = streamed.held.model.transformer.h

    def break_off(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("no memory left")

    for layer in layers:
        handle = layer.mlp.register_forward_pre_hook(break_off)
        with pytest.raises(Exception, match="no memory left"):
            streamed.evaluate(NOISE)
        handle.remove()
        assert streamed.evaluate(WINDOWS)["tokens"] == whole.evaluate(WINDOWS)["tokens"]


def test_layers_are_in_two_slots_and_what_layers_share_is_of_none(tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(make_model(tmp_path, "gpt2"))
    layers = model.transformer.h
    layers[1].ln_1.weight = layers[0].ln_1.weight
    model.eval().requires_grad_(False)
    seen: list[int] = []
    for layer in layers:
        layer.mlp.register_forward_hook(
            lambda module, *_: seen.append(module.c_fc.weight.untyped_storage().data_ptr())
        )
    before = {name: p.clone() for name, p in model.named_parameters()}
    stream_layers("a model", model, CPU)
    with torch.inference_mode():
        for _ in range(2):
            model(torch.tensor([[1, 2, 3]]))
    homes = {layer.mlp.c_fc.weight.untyped_storage().data_ptr() for layer in layers}
    assert len(homes) == 3 and len(set(seen)) == 2 and not homes & set(seen)
    assert layers[1].ln_1.weight is layers[0].ln_1.weight
    assert layers[0].ln_1.weight.untyped_storage().data_ptr() not in homes
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_an_architecture_that_does_not_say_what_its_layers_are_is_refused(tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    model._no_split_modules = None
    with pytest.raises(CannotLoadError, match=r"does not say what its layers are; take --pla"):
        stream_layers("a model", model, CPU)


def test_prompts_answered_together_end_where_they_end_and_a_fault_is_of_its_own(
    tmp_path: Path,
) -> None:
    folder = make_tiny_model(tmp_path / "model", max_positions=64)
    engine = held_whole(folder)
    alone = engine.evaluate(
        GenerationsPayload(first_item=0, prompts=PROMPTS, max_new_tokens=8)
    ).to_pylist()
    # What the second one says first ends it.
    end = alone[1]["token_ids"][0]
    edit_json(folder / "generation_config.json", eos_token_id=end)
    rows = held_whole(folder).evaluate(TOGETHER).to_pylist()
    assert rows[1]["token_ids"] == [end] and rows[1]["finish_reason"] == "stop"
    for row, by_itself in zip(rows, alone, strict=True):
        ids = by_itself["token_ids"]
        assert row["token_ids"] == ids[: ids.index(end) + 1 if end in ids else len(ids)]
        assert row["timings"] == [] and row["seconds"] > 0


def test_of_prompts_together_one_that_cannot_be_answered_takes_no_other_with_it(
    tmp_path: Path,
) -> None:
    """GPT-2 has no place for more than 128 tokens."""
    engine = held_whole(make_model(tmp_path, "gpt2"))
    long = Prompt(id="long", category="A", input_ids=random_ids(200, 1))
    payload = TOGETHER.model_copy(update={"prompts": (PROMPTS[0], long)})
    rows = engine.evaluate(payload).to_pylist()
    assert [row["finish_reason"] for row in rows] == ["length", "error"]
    assert "index out of range" in rows[1]["error"] and len(rows[0]["token_ids"]) == 8
