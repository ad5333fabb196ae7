"""What an actor measures: the size of the weights, and answers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.stage_work import WORK
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.kernels import is_emulated
from orchestrator.contract.shards import ModelLocation, Prompt
from orchestrator.contract.stages import STAGES, GenerationsPayload, LoadingPayload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.contract.variants import VARIANTS
from orchestrator.inputs.models import resolve_model
from orchestrator.planning.sizes import expected_weights_bytes, resident_bytes
from tests.pipeline import assignment
from tests.tiny_models import ARCHITECTURES, make_tiny_model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", VARIANTS)
def test_measured_weights_are_what_the_arithmetic_says(
    name: str, architecture: str, tied: bool, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, architecture, tied=tied)
    model = resolve_model(str(folder), None)
    checkpoint = model.checkpoint
    engine = TransformersEngine(assignment(checkpoint.location, name))
    loading = engine.evaluate(LoadingPayload()).to_pylist()[0]
    variant = VARIANTS[name]
    expected = expected_weights_bytes(checkpoint.tensors, variant)
    if is_emulated(variant, "float32", None):
        expected = resident_bytes(checkpoint.tensors, variant, variant.weights_dtype, emulated=True)
    assert loading["weights_bytes"] == pytest.approx(expected, rel=0.002)


def test_answers_are_those_of_a_plain_greedy_loop(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).float()
    ids = tokenizer("The bridge at Harrow was")["input_ids"]
    expected = list(ids)
    for _ in range(12):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
        if expected[-1] == tokenizer.eos_token_id:
            break
    engine = TransformersEngine(assignment(ModelLocation(id_or_path=str(folder)), "fp16"))
    prompt = Prompt(id="p", category="c", input_ids=tuple(ids))
    table = engine.evaluate(GenerationsPayload(first_item=5, prompts=(prompt,), max_new_tokens=12))
    row = table.to_pylist()[0]
    assert row["text"] == tokenizer.decode(expected[len(ids) :], skip_special_tokens=True)
    assert row["new_tokens"] == len(expected) - len(ids)
    assert row["finish_reason"] == ("stop" if expected[-1] == tokenizer.eos_token_id else "length")
    assert (row["prompt"], row["prompt_tokens"], row["success"]) == (5, len(ids), True)
    assert row["seconds"] > 0


def test_damaged_weights_are_told_in_one_line(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CannotLoadError, match=r"variant fp16 of .* cannot be loaded") as caught:
        TransformersEngine(assignment(ModelLocation(id_or_path=str(folder)), "fp16"))
    assert "\n" not in str(caught.value)


def test_an_engine_has_work_for_every_stage() -> None:
    assert WORK.keys() == STAGES.keys()
