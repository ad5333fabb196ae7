"""A model over two GPUs says what one says that is on one; skipped where there are not two."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
import transformers as hf

from actors.device_memory import is_free
from actors.spreading import is_spread
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import SeveralDevices
from orchestrator.contract.stages import GenerationsPayload
from tests.gpu.test_cuda_candidates import GPU
from tests.models.actors.test_streaming import ANSWERED, NOISE, PROMPTS, WINDOWS
from tests.tiny_engines import engine_at
from tests.tiny_models import make_tiny_model, save_random_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two CUDA devices"),
]

TWO = SeveralDevices(gpus=2)
BOTH_WAYS = GenerationsPayload(
    first_item=0, prompts=PROMPTS, max_new_tokens=8, decodings=("eager", "graph")
)
SIZES = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 1}
DEEP = {
    **SIZES,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS = {
    "mistral": hf.MistralConfig(**DEEP),
    "gemma2": hf.Gemma2Config(**DEEP, head_dim=64, query_pre_attn_scalar=64),
    "tied": hf.Qwen2Config(**DEEP, tie_word_embeddings=True),
    "gpt2": hf.GPT2Config(**SIZES, n_embd=256, n_layer=6, n_head=4, n_positions=128),
}


def made(folder: Path, architecture: str) -> Path:
    tokenizer = make_tiny_model(folder / "tokenizer")
    return save_random_model(CONFIGS[architecture], folder / "model", tokenizer)


def tokens_of(engine: TransformersEngine) -> list[pa.ChunkedArray]:
    return [engine.evaluate(each)["tokens"] for each in (WINDOWS, NOISE, ANSWERED)]


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        *(("mistral", name) for name in ("fp16", "int8", "nf4", "torchao-int8")),
        *((name, "fp16") for name in ("gemma2", "tied", "gpt2")),
    ],
)
def test_all_that_is_measured_is_the_same(architecture: str, variant: str, tmp_path: Path) -> None:
    folder = made(tmp_path, architecture)
    whole, spread = (engine_at(folder, place, "float16", variant) for place in (GPU, TWO))
    assert is_spread(spread.held.model) and not is_spread(whole.held.model)
    assert tokens_of(spread) == tokens_of(whole)
    _, states = whole.evaluate_and_keep(WINDOWS)
    _, others = spread.evaluate_and_keep(WINDOWS)
    found = [
        engine.compare(WINDOWS, held, reference.describe())["tokens"]
        for engine, held, reference in ((whole, others, spread), (spread, states, whole))
    ]
    assert found[0] == found[1]
    rows = spread.evaluate(BOTH_WAYS)
    assert rows["token_ids"] == whole.evaluate(BOTH_WAYS)["token_ids"]
    assert {timing["decoding"] for row in rows["timings"].to_pylist() for timing in row} == {
        "eager"
    }
    if variant != "int8":
        assert set(rows["graph_refusal"].to_pylist()) == {"its layers are on several devices"}


def test_memory_is_the_sum_and_both_devices_get_it_back(tmp_path: Path) -> None:
    folder = made(tmp_path, "mistral")
    assert is_free("cuda")
    spread = engine_at(folder, TWO, "float16")
    on_each = [torch.cuda.memory_allocated(number) for number in (0, 1)]
    loading = spread.held.loading
    assert min(on_each) > loading["weights_bytes"] / 4
    assert loading["weights_bytes"] <= loading["device_allocated_bytes"] <= sum(on_each)
    del spread
    assert is_free("cuda") and torch.cuda.memory_allocated(1) <= 2**20


def test_one_device_takes_nothing_of_another(tmp_path: Path) -> None:
    assert is_free("cuda")
    before = torch.cuda.memory_reserved(1)
    whole = engine_at(made(tmp_path, "mistral"), GPU, "float16")
    tokens_of(whole)
    assert torch.cuda.memory_reserved(1) == before
