"""Streamed weights on a GPU: figures bit for bit those of a model that is there whole."""

from pathlib import Path

import pytest
import torch

from actors.device_memory import is_free
from orchestrator.contract.shards import Streamed
from tests.gpu.test_cuda_candidates import GPU
from tests.models.actors.test_streaming import TOGETHER, make_model, tokens_of
from tests.tiny_engines import engine_at

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

STREAMED = Streamed(device="cuda")


@pytest.mark.parametrize("architecture", ["mistral", "llama", "qwen2", "gemma2", "mixtral", "gpt2"])
def test_all_that_is_scored_is_the_same_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path, architecture)
    whole = engine_at(folder, GPU, "float16")
    streamed = engine_at(folder, STREAMED, "float16")
    for _ in range(3):
        assert tokens_of(streamed) == tokens_of(whole)
    answers = [engine.evaluate(TOGETHER)["token_ids"] for engine in (whole, streamed)]
    assert answers[0] == answers[1]


def test_a_device_gets_back_what_it_had_of_the_layers(tmp_path: Path) -> None:
    folder = make_model(tmp_path, "gpt2")
    for _ in range(2):
        engine = engine_at(folder, STREAMED, "float16")
        layer = engine.held.model.transformer.h[0]
        assert layer.mlp.c_fc.weight.is_pinned() and layer.ln_1.weight.is_pinned()
        assert engine.held.model.transformer.wte.weight.is_cuda
        tokens_of(engine)
        del engine, layer
        assert is_free("cuda")
    torch.cuda.synchronize()
