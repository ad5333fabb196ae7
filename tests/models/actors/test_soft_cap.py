"""Gemma 2's attention: its scores are capped, as its configuration says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from actors.loading import load_model
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from tests.tiny_models import make_tiny_model, save_random_model

IDS = (torch.arange(90) * 37 % 500).reshape(1, -1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of which most scores are beyond the cap, and whose layers see a window in turn."""
    tokenizer = make_tiny_model(tmp_path / "tokenizer", "llama")
    config = Gemma2Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=128,
        initializer_range=0.3,
        sliding_window=24,
        attn_logit_softcapping=1.5,
    )
    return save_random_model(config, tmp_path / "model", tokenizer)


@torch.inference_mode()
def predictions(model: Any, ids: torch.Tensor = IDS, **more: Any) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False, **more).logits.double().log_softmax(-1)


def loaded(folder: Path) -> Any:
    location = ModelLocation(id_or_path=str(folder))
    return load_model(location, VARIANTS["fp32"], torch.device("cpu"))


def plain(folder: Path, kernel: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=kernel
    )


def test_it_is_that_of_plain_attention_and_not_of_fused(folder: Path) -> None:
    found = predictions(loaded(folder))
    torch.testing.assert_close(found, predictions(plain(folder, "eager")), atol=1e-4, rtol=0)
    assert float((found - predictions(plain(folder, "sdpa"))).abs().max()) > 0.1


def test_a_batch_with_padding_is_masked(folder: Path) -> None:
    ids = torch.cat([IDS[:, :40], IDS[:, 30:70]])
    mask = torch.ones_like(ids)
    mask[1, :13] = 0
    found, expected = (
        predictions(model, ids, attention_mask=mask)
        for model in (loaded(folder), plain(folder, "eager"))
    )
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1, 13:], expected[1, 13:], atol=1e-4, rtol=0)


def test_answers_with_a_cache_are_those_without(folder: Path) -> None:
    model = loaded(folder)
    answer = model.generate(IDS[:, :50], max_new_tokens=12, do_sample=False)
    again = predictions(model, answer)[0, 49:-1].argmax(-1)
    assert again.tolist() == answer[0, 50:].tolist()
