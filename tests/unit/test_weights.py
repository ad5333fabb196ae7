"""A model is run as its files say, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from actors.engine import Engine
from actors.loading import load_model
from orchestrator.contract.errors import CannotLoadError
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.models import resolve_model
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder: Path, variant: str = "fp16") -> Any:
    return load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], CPU)


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("lm_head.weight"), r"1 tensors are missing from its files \(lm_head\.weight\)"),
        (
            without("model.layers.1.mlp.up_proj.weight"),
            r"1 tensors are missing .*\(model\.layers\.1\.mlp\.up_proj\.weight\)",
        ),
        (
            lambda weights: {**weights, "model.layers.0.mlp.gate.weight": torch.ones(3)},
            r"1 tensors have no place .*\(model\.layers\.0\.mlp\.gate\.weight\)",
        ),
        (
            lambda weights: {f"wrapped.inner.{key}": value for key, value in weights.items()},
            r"21 tensors are missing .*, …\), 21 tensors have no place .*wrapped\.inner\.",
        ),
    ],
    ids=["no-head", "no-projection", "one-more", "prefix"],
)
def test_tensors_that_are_not_the_model_s_are_named(
    change: Callable[[Weights], Weights], named: str, variant: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    edit_weights(folder, change)
    with pytest.raises(CannotLoadError, match=rf"variant {variant} of .* is not whole: {named}"):
        load(folder, variant)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 3}, r"9 tensors are missing .*\(model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"9 tensors have no place .*\(model\.layers\.1\."),
    ],
)
def test_a_configuration_of_other_layers_is_refused(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, **change)
    with pytest.raises(CannotLoadError, match=named):
        load(folder)


def test_a_configuration_of_other_shapes_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, intermediate_size=96)
    with pytest.raises(CannotLoadError, match=r"variant fp16 of ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "int8", "nf4"])
def test_a_model_that_sees_the_future_is_refused(variant: str, tmp_path: Path) -> None:
    config = BertConfig(
        initializer_range=0.2,
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    for path in make_tiny_model(tmp_path / "other").glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CannotLoadError, match="is no causal language model: its predictions"):
        Engine(assignment(ModelLocation(id_or_path=str(tmp_path)), variant))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "falcon-h1"])
def test_a_causal_model_is_not(variant: str, architecture: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, architecture)
    Engine(assignment(ModelLocation(id_or_path=str(folder)), variant))


@pytest.mark.parametrize(
    "section",
    [{"quant_method": "gptq", "bits": 4}, {"load_in_4bit": True}, {"quant_method": "fp8"}],
)
@pytest.mark.parametrize("where", ["quantization_config", "compression_config", "text_config"])
def test_a_quantized_model_is_no_original(
    where: str, section: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    nested = {"quantization_config": section} if where == "text_config" else section
    edit_config(folder, **{where: nested})
    with pytest.raises(
        BadInputError, match=r"^--model: .* is already quantized \(.*name the model"
    ):
        resolve_model(str(folder), None)


@pytest.mark.parametrize("content", ["[]", "null", "{", '"text"'])
def test_a_configuration_that_is_none_is_told_in_one_line(content: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(BadInputError, match=r"^--model: .*config\.json"):
        resolve_model(str(folder), None)


def test_an_empty_text_section_is_no_section(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, text_config=None)
    assert resolve_model(str(folder), None).maximum_length == 128
