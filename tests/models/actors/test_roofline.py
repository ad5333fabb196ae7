"""What a new token reads, against the shapes of the model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.roofline import cache_bytes_per_token, copy_bytes_per_second, read_weights_bytes
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.stages import LoadingPayload
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")


@pytest.mark.parametrize("tied", [False, True])
def test_a_token_reads_all_weights_but_an_embedding_that_is_no_head(
    tied: bool, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, tied=tied)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    weights = {id(p): p.nbytes for p in model.parameters()}
    embedding = model.get_input_embeddings().weight.nbytes
    assert read_weights_bytes(model) == sum(weights.values()) - (0 if tied else embedding)


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4"])
def test_what_is_quantized_reads_less(variant: str, tmp_path: Path) -> None:
    location = ModelLocation(id_or_path=str(make_tiny_model(tmp_path)))
    loading = (
        TransformersEngine(assignment(location, variant)).evaluate(LoadingPayload()).to_pylist()[0]
    )
    whole = AutoModelForCausalLM.from_pretrained(location.id_or_path, dtype=torch.float32)
    everything = sum(p.nbytes for p in whole.parameters())
    unread = whole.get_input_embeddings().weight.nbytes
    assert loading["read_weights_bytes"] == loading["running_weights_bytes"] - unread
    assert (loading["running_weights_bytes"] < everything) == (variant != "fp16")
    assert loading["device_copy_bytes_per_second"] is None


def test_the_cache_of_a_token_is_its_keys_and_values(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, architecture="qwen2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
    config = model.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    assert cache_bytes_per_token(model, CPU) == 2 * 2 * config.num_hidden_layers * width


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    experts = make_tiny_model(tmp_path / "mixtral", architecture="mixtral")
    assert read_weights_bytes(AutoModelForCausalLM.from_pretrained(experts)) is None
    states = make_tiny_model(tmp_path / "mamba", architecture="mamba")
    assert cache_bytes_per_token(AutoModelForCausalLM.from_pretrained(states), CPU) is None
    assert copy_bytes_per_second(CPU) is None
