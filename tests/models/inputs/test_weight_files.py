"""Every tensor stands in one place, and what is counted is what is loaded."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, GPT2Config

from actors.held_model import hold_model
from actors.loading import load_model
from actors.weights import weight_bytes
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import read_folder
from orchestrator.planning.sizes import expected_weights_bytes
from tests.pipeline import assignment
from tests.tiny_models import copy_tokenizer, edit_json, make_tiny_model, save_random_model

_MOVED = "model.layers.0.mlp.up_proj.weight"
_FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
_INDEX = "model.safetensors.index.json"


def save(folder: Path, file: str, weights: dict[str, torch.Tensor]) -> None:
    whole = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(whole, folder / file, {"format": "pt"})


def in_two_files(folder: Path, keep: bool = False) -> dict[str, torch.Tensor]:
    """Gives a folder two files and an index in the place of one file."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    places: dict[str, str] = {}
    for file, half in zip(_FILES, halves, strict=True):
        save(folder, file, {name: weights[name] for name in half})
        places |= dict.fromkeys(half, file)
    (folder / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    if not keep:
        (folder / "model.safetensors").unlink()
    return weights


def refused(folder: Path, told: str) -> None:
    with pytest.raises(BadInputError, match=rf"^--variants: .*{told}"):
        read_folder(str(folder), None, "--variants")


def test_a_tensor_that_stands_in_two_files_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    weights = in_two_files(folder)
    assert len(read_folder(str(folder), None, "--variants").tensors) == len(weights)
    stale = load_file(folder / _FILES[1]) | {_MOVED: torch.zeros_like(weights[_MOVED])}
    save(folder, _FILES[1], stale)
    refused(folder, rf"does not have {_MOVED} in {_FILES[1]}: which copy is meant")


def test_a_tensor_in_another_file_than_the_index_says_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    in_two_files(folder)
    first, second = (load_file(folder / file) for file in _FILES)
    second[_MOVED] = first.pop(_MOVED)
    save(folder, _FILES[0], first)
    save(folder, _FILES[1], second)
    refused(folder, rf"does not have {_MOVED} in {_FILES[1]}")


def test_a_tensor_that_no_file_has_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    in_two_files(folder)
    first = load_file(folder / _FILES[0])
    del first[_MOVED]
    save(folder, _FILES[0], first)
    refused(folder, rf"has {_MOVED} in {_FILES[0]}, which is not there; fetch it again")


@pytest.mark.parametrize("change", ["none", "a number", "a name"])
def test_one_file_beside_an_index_must_hold_the_same(change: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    weights = in_two_files(folder, keep=True)
    if change == "a number":
        weights[_MOVED][3, 4] += 1
    if change == "a name":
        del weights[_MOVED]
    save(folder, "model.safetensors", weights)
    if change == "none":
        assert read_folder(str(folder), None, "--variants").tensors
        # The same once more under another name, and in a folder of its own, is not loaded.
        save(folder, "consolidated.safetensors", {"w": torch.ones(2)})
    else:
        refused(folder, rf"hold other weights \({_MOVED}\); remove those that are not meant")


def expected_and_held(folder: Path, variant: str) -> tuple[int | None, int]:
    chosen = VARIANTS[variant]
    tensors = read_folder(str(folder), None, "--model").tensors
    held = load_model(ModelLocation(id_or_path=str(folder)), chosen, torch.device("cpu"))
    return expected_weights_bytes(tensors, chosen), weight_bytes(held).total


@pytest.mark.parametrize("variant", ["fp16", "nf4"])
def test_masks_that_an_old_file_keeps_are_no_weights(variant: str, tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=512, n_embd=64, n_layer=2, n_head=4, n_positions=128, bos_token_id=0
    )
    save_random_model(config, tmp_path, make_tiny_model(tmp_path / "tokenizer", "llama"))
    weights = load_file(tmp_path / "model.safetensors")
    weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    for layer in range(2):
        weights[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(128, 128)).view(1, 1, 128, 128)
        weights[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save(tmp_path, "model.safetensors", weights)
    expected, held = expected_and_held(tmp_path, variant)
    assert held == (expected if variant == "fp16" else pytest.approx(expected, rel=0.02))


@pytest.mark.parametrize("same", [True, False])
def test_a_head_of_its_own_counts_whatever_the_configuration_says(
    same: bool, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, "llama", tied=True)
    weights = load_file(folder / "model.safetensors")
    head = weights["model.embed_tokens.weight"].clone()
    weights["lm_head.weight"] = head if same else 2 * head
    save(folder, "model.safetensors", weights)
    expected, held = expected_and_held(folder, "fp16")
    assert expected == held


def test_layers_that_predict_beyond_the_next_token_are_not_loaded(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, "llama")
    before = read_folder(str(folder), None, "--model").tensors
    weights = load_file(folder / "model.safetensors")
    weights |= {
        name.replace("layers.0", "layers.2"): weight.clone()
        for name, weight in weights.items()
        if "layers.0" in name
    }
    weights["mtp.fc.weight"] = torch.ones(64, 64, dtype=torch.float16)
    save(folder, "model.safetensors", weights)
    edit_json(folder / "config.json", num_nextn_predict_layers=1)
    assert {t.name for t in read_folder(str(folder), None, "--model").tensors} == {
        t.name for t in before
    }
    # What is no number of layers leaves nothing out; the model's own configuration refuses it.
    edit_json(folder / "config.json", num_nextn_predict_layers=1.5)
    assert len(read_folder(str(folder), None, "--model").tensors) > len(before)


def test_a_masked_model_is_refused_by_its_own_word(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    copy_tokenizer(make_tiny_model(tmp_path / "tokenizer", "llama"), tmp_path)
    refused(tmp_path, r"is a masked language model \(BertForMaskedLM\)")
    # One that was trained to predict the next token says so.
    decoder = make_tiny_model(tmp_path / "decoder", "bert")
    hold_model(assignment(ModelLocation(id_or_path=str(decoder)), "fp16"))
    assert read_folder(str(decoder), None, "--model").tensors
