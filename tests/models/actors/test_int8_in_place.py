"""LLM.int8 made where the weights lie is transformers' own, weight for weight."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config
from transformers.integrations.bitsandbytes import Bnb8bitQuantize

from actors.int8_in_place import InPlaceInt8Config
from tests.tiny_models import make_tiny_model, save_random_model

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def loaded(folder: Path, device: str, quantization: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float16, device_map={"": device}, quantization_config=quantization
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ["mistral", "gpt2"])
def test_codes_scales_and_logits_are_those_of_transformers(
    architecture: str, device: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path / "mistral")
    if architecture == "gpt2":
        # Its layers hold their weights transposed.
        shape = GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=2, n_positions=128)
        folder = save_random_model(shape, tmp_path / "gpt2", tokenizer=folder)
    theirs = loaded(folder, device, BitsAndBytesConfig(load_in_8bit=True))
    ours = loaded(folder, device, InPlaceInt8Config())
    kept, made = dict(theirs.named_parameters()), dict(ours.named_parameters())
    assert list(made) == list(kept)
    quantized = 0
    for name, weight in kept.items():
        assert type(made[name]) is type(weight)
        assert torch.equal(made[name].data, weight.data), name
        assert made[name].device == weight.device
        if weight.dtype == torch.int8:
            assert torch.equal(made[name].SCB, weight.SCB), name
            assert made[name].CB.data_ptr() == made[name].data_ptr()
            quantized += 1
    assert quantized
    ids = torch.arange(20, device=device)[None]
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_transformers_still_takes_each_weight_to_the_host() -> None:
    """Once it does not, `actors/int8_in_place.py` has done its work and can go."""
    assert 'value.to("cpu")' in inspect.getsource(Bnb8bitQuantize.convert)
