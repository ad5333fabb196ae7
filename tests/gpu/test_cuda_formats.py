"""Formats on a GPU: multiplied by a kernel or rounded alike, the same but for a dtype."""

from pathlib import Path

import pytest
import torch

from actors.rounding import quantized
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.formats import FORMATS
from orchestrator.contract.stages import GenerationsPayload
from orchestrator.inputs.models import resolve_model
from orchestrator.planning.sizes import expected_weights_bytes
from tests.gpu.test_cuda_candidates import GPU
from tests.models.actors.test_rounding import random
from tests.models.actors.test_streaming import PROMPTS, WINDOWS
from tests.tiny_engines import engine_at
from tests.tiny_models import make_mistral

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

BOTH_WAYS = GenerationsPayload(
    first_item=0, prompts=PROMPTS, max_new_tokens=8, decodings=("eager", "graph")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mistral(tmp_path_factory.mktemp("model"), hidden=256, intermediate=512, layers=2)


def likelihoods(engine: TransformersEngine) -> torch.Tensor:
    rows = engine.evaluate(WINDOWS)["negative_log_likelihood"].to_pylist()
    return torch.tensor(rows)


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_rounded_as_on_a_processor(name: str) -> None:
    form = FORMATS[name]
    for rounding in {form.weights, form.activations} - {None}:
        assert rounding is not None
        here, there = quantized(random(), rounding), quantized(random().cuda(), rounding)
        assert torch.equal(here.scales, there.scales.cpu())
        assert torch.equal(here.levels, there.levels.cpu())


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9),
    reason="no CUDA device that multiplies FP8",
)
def test_fp8_is_multiplied_in_bfloat16_and_emulated_else(folder: Path) -> None:
    multiplied = engine_at(folder, GPU, "bfloat16", "fp8")
    assert multiplied.held.linear == "torchao Float8Tensor"
    loading = multiplied.held.loading
    assert loading["kernel"] is None and loading["quantized_weights_bytes"] > 0
    tensors = resolve_model(str(folder), None).checkpoint.tensors
    assert loading["weights_bytes"] == expected_weights_bytes(tensors, multiplied.held.variant)
    emulated = engine_at(folder, GPU, "float16", "fp8")
    assert emulated.held.linear == "torch Linear"
    assert emulated.held.loading["quantized_weights_bytes"] == 0
    plain = engine_at(folder, GPU, "bfloat16", "bf16")
    found, alike, whole = map(likelihoods, (multiplied, emulated, plain))
    # What the format changes is more than in which dtype the rest is computed.
    assert (found - alike).abs().max() < 0.5 * (found - whole).abs().max()


@pytest.mark.parametrize("name", ["fp8", "nvfp4-a4", "mxfp8-a8", "mxfp4"])
def test_what_is_emulated_answers_by_a_graph_too(name: str, folder: Path) -> None:
    rows = engine_at(folder, GPU, "float16", name).evaluate(BOTH_WAYS)
    assert rows["graph_refusal"].null_count == len(rows)
