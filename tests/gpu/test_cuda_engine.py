"""The actor's engine on a real GPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from actors.engine import Engine
from orchestrator.models import resolve_model
from orchestrator.shards import Prompt, PromptShard, Window, WindowShard
from orchestrator.sizes import expected_weights_bytes
from orchestrator.variants import VARIANTS
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8", "nf4", "nf4-dq", "fp4"])
def test_memory_is_measured_on_the_device(name: str, tmp_path: Path) -> None:
    model = resolve_model(str(make_tiny_model(tmp_path)), None)
    engine = Engine(model.location, VARIANTS[name], "float16", "cuda", 1)
    memory = engine.load().to_pylist()[0]
    expected = expected_weights_bytes(model.tensors, VARIANTS[name])
    assert memory["weights_bytes"] == pytest.approx(expected, rel=0.01)
    assert memory["device_allocated_bytes"] > 0
    assert memory["device_peak_bytes"] >= memory["device_allocated_bytes"]
    assert memory["driver_version"]


@pytest.mark.parametrize("name", ["fp32", "int8", "nf4"])
def test_a_gpu_and_a_cpu_agree(name: str, tmp_path: Path) -> None:
    model = resolve_model(str(make_tiny_model(tmp_path)), None)
    window = Window.scored_from(tuple(range(2, 120)), 1)
    prompt = Prompt(id="p", category="c", input_ids=(5, 6, 7))
    likelihoods = []
    for device in ("cpu", "cuda"):
        engine = Engine(model.location, VARIANTS[name], "float32", device, 1)
        engine.load()
        rows = engine.evaluate(WindowShard(first=0, windows=(window,))).to_pylist()
        likelihoods.append(rows[0]["negative_log_likelihood"])
        answers = engine.evaluate(PromptShard(first=0, prompts=(prompt,), max_new_tokens=4))
        assert answers.to_pylist()[0]["new_tokens"] > 0
    # LLM.int8 multiplies through float16 on both, rounding in another order.
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-3)
