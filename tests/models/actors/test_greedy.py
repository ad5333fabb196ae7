"""Answers are those of an argmax loop, whatever a model's files prefer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation, Prompt
from orchestrator.contract.stages import GenerationsPayload
from tests.pipeline import assignment, make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import edit_json, make_tiny_model

LENGTH = 16
PROMPT = tuple(range(40, 52))


def greedy_ids(folder: Path, ends: set[int]) -> list[int]:
    """The tokens that an argmax loop adds to the prompt, an end token included."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).float()
    ids = list(PROMPT)
    for _ in range(LENGTH):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in ends:
            break
    return ids[len(PROMPT) :]


def answer(folder: Path) -> dict[str, Any]:
    engine = TransformersEngine(assignment(ModelLocation(id_or_path=str(folder)), "fp16"))
    prompt = Prompt(id="p", category="c", input_ids=PROMPT)
    shard = GenerationsPayload(first_item=0, prompts=(prompt,), max_new_tokens=LENGTH)
    row: dict[str, Any] = engine.evaluate(shard).to_pylist()[0]
    return row


@pytest.mark.parametrize(
    "preferences",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 1},
        {"do_sample": True, "temperature": 5.0, "top_p": 0.9},
        {"num_beams": 4, "length_penalty": 2.0},
        {"num_beams": 2, "num_return_sequences": 2},
        {"min_new_tokens": 12},
        {"max_length": 3},
        {"suppress_tokens": list(range(400))},
        {"begin_suppress_tokens": list(range(400))},
        {"bad_words_ids": [[token] for token in range(2, 400)]},
        {"forced_bos_token_id": 7, "forced_eos_token_id": 9},
        {"sequence_bias": [[[token], 50.0] for token in range(2, 9)]},
        {"return_dict_in_generate": True, "output_scores": True},
        {"prompt_lookup_num_tokens": 3},
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"stop_strings": ["a", "e", "i"]},
        {"max_time": 1e-9},
        {"guidance_scale": 3.0},
        {"exponential_decay_length_penalty": [1, 5.0]},
    ],
    ids=lambda preferences: next(iter(preferences)),
)
def test_no_preference_of_a_model_changes_an_answer(
    preferences: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    expected = greedy_ids(folder, ends={1})
    edit_json(folder / "generation_config.json", **preferences)
    row = answer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert row["error"] is None
    assert row["text"] == tokenizer.decode(expected, skip_special_tokens=True)
    assert row["new_tokens"] == len(expected)


def test_a_preference_in_the_model_s_own_configuration_does_not_either(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    expected = greedy_ids(folder, ends={1})
    (folder / "generation_config.json").unlink(missing_ok=True)
    edit_json(folder / "config.json", repetition_penalty=1.5, num_beams=3)
    row = answer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert row["text"] == tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize("where", ["tokenizer", "generation", "generation-list", "both"])
def test_an_answer_ends_with_the_end_tokens_of_model_and_tokenizer(
    where: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    free = greedy_ids(folder, ends=set())
    end = free[4]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if where in ("tokenizer", "both"):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        tokenizer.save_pretrained(folder)
    ids: Any = {"generation": end, "generation-list": [0, end], "both": [1]}.get(where, 1)
    edit_json(folder / "generation_config.json", eos_token_id=ids)
    row = answer(folder)
    assert row["new_tokens"] == free.index(end) + 1
    assert row["finish_reason"] == "stop"


def test_a_model_without_any_end_token_runs_to_the_limit(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_json(folder / "generation_config.json", eos_token_id=None)
    edit_json(folder / "config.json", eos_token_id=None)
    edit_json(folder / "tokenizer_config.json", eos_token=None)
    row = answer(folder)
    assert row["new_tokens"] == len(greedy_ids(folder, ends=set()))
    assert row["finish_reason"] == "length"


@pytest.mark.parametrize("broken", [float("nan"), 6e4])
def test_an_answer_of_logits_that_are_no_numbers_is_an_error_and_noted(
    broken: float, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = broken
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    plan = make_test_plan(
        **write_inputs(tmp_path, SAMPLE_ROWS),
        model=str(folder),
        variants=("fp16",),
        max_windows=1,
        max_new_tokens=4,
        compute_dtype="float16",
        results=tmp_path,
    )
    comparison = run_in_process(plan)
    generation = comparison.variants["fp16"].generation
    assert (generation.succeeded, generation.prompts) == (0, 4)
    told = (
        "fp16: 4 of 4 answers ended in an error, the first in: its logits are not finite numbers."
    )
    assert told in comparison.notes
    assert told in markdown_of(comparison)
