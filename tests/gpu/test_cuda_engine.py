"""The actor's engine on a real GPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

from actors.actor import ModelActor
from actors.device_memory import is_free
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.environment import environment_of
from orchestrator.contract.shards import Prompt, Window
from orchestrator.contract.stages import (
    GenerationsPayload,
    LoadingPayload,
    NoisePayload,
    WindowsPayload,
)
from orchestrator.contract.variants import VARIANTS
from orchestrator.inputs.models import resolve_model
from orchestrator.planning.sizes import expected_weights_bytes
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8", "nf4", "nf4-dq", "fp4"])
def test_memory_is_measured_on_the_device(name: str, tmp_path: Path) -> None:
    model = resolve_model(str(make_tiny_model(tmp_path)), None)
    checkpoint = model.checkpoint
    engine = TransformersEngine(assignment(checkpoint.location, name, "float16", "cuda"))
    table = engine.evaluate(LoadingPayload())
    loading = table.to_pylist()[0]
    expected = expected_weights_bytes(checkpoint.tensors, VARIANTS[name])
    assert loading["weights_bytes"] == pytest.approx(expected, rel=0.01)
    assert loading["device_allocated_bytes"] > 0
    assert loading["device_peak_bytes"] >= loading["device_allocated_bytes"]
    assert loading["device_reserved_bytes"] >= loading["device_peak_bytes"]
    # What the driver tells is never less than a context takes, or more than a card.
    context = loading["device_context_bytes"]
    assert context is None or 50 * 2**20 < context < 4 * 2**30
    environment = environment_of(table.schema)
    assert environment.device == torch.cuda.get_device_name()
    assert environment.driver_version


@pytest.mark.parametrize("name", ["fp32", "int8", "nf4"])
def test_a_gpu_and_a_cpu_agree(name: str, tmp_path: Path) -> None:
    model = resolve_model(str(make_tiny_model(tmp_path)), None)
    window = Window.scored_from(tuple(range(2, 120)), 1)
    prompt = Prompt(id="p", category="c", input_ids=(5, 6, 7))
    likelihoods = []
    for device in ("cpu", "cuda"):
        engine = TransformersEngine(assignment(model.checkpoint.location, name, device=device))
        rows = engine.evaluate(WindowsPayload(numbers=(0,), windows=(window,))).to_pylist()
        likelihoods.append(rows[0]["negative_log_likelihood"])
        answers = engine.evaluate(
            GenerationsPayload(first_item=0, prompts=(prompt,), max_new_tokens=4)
        )
        assert answers.to_pylist()[0]["new_tokens"] > 0
    # LLM.int8 multiplies through float16 on both, rounding in another order.
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-3)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_the_noise_floor_is_rounding_and_its_memory_is_forgotten(name: str, tmp_path: Path) -> None:
    model = resolve_model(str(make_tiny_model(tmp_path)), None)
    dtype = VARIANTS[name].weights_dtype
    engine = TransformersEngine(assignment(model.checkpoint.location, name, dtype, "cuda"))
    windows = tuple(Window.scored_from(tuple(range(n, n + 100)), 1) for n in (2, 200))
    table = engine.evaluate(NoisePayload(numbers=(0, 4), windows=windows))
    rows = table.to_pylist()
    assert [row["window"] for row in rows] == [0, 4]
    assert rows[0]["other_order"] == "its attention by another kernel, eager in place of sdpa"
    kl = [token["kl"] for row in rows for token in row["tokens"]]
    # A logit of a few is rounded by a thousandth in float16, by a hundredth in bfloat16.
    assert 0 < max(kl) < 1e-2
    assert torch.cuda.max_memory_allocated() < rows[0]["device_peak_bytes"]


def test_each_phase_has_the_memory_of_its_own(tmp_path: Path) -> None:
    """A short answer takes less than many windows at once, whichever came first."""
    location = resolve_model(str(make_tiny_model(tmp_path)), None).checkpoint.location
    is_free("cuda")
    engine = TransformersEngine(assignment(location, "fp16", "float16", "cuda"))
    prompt = Prompt(id="p", category="c", input_ids=(5, 6, 7))
    answer = GenerationsPayload(first_item=0, prompts=(prompt,), max_new_tokens=4)
    window = Window.scored_from(tuple(range(2, 126)), 1)
    windows = WindowsPayload(numbers=tuple(range(256)), windows=(window,) * 256, batch=256)
    found = [engine.evaluate(payload).to_pylist()[-1] for payload in (answer, windows, answer)]
    for name in ("device_peak_bytes", "device_reserved_bytes"):
        before, scoring, after = (row[name] for row in found)
        assert scoring > after
        assert after == pytest.approx(before, abs=2**22)


def test_one_process_holds_one_variant_after_another_and_measures_each_alone(
    tmp_path: Path,
) -> None:
    """What is measured of a variant is the same whatever was in its process before."""
    location = resolve_model(str(make_tiny_model(tmp_path, hidden=512)), None).checkpoint.location
    prompt = Prompt(id="p", category="c", input_ids=tuple(range(40, 60)))
    ways = ("eager", "graph")
    prompts = GenerationsPayload(first_item=0, prompts=(prompt,), max_new_tokens=8, decodings=ways)
    noise = NoisePayload(numbers=(0,), windows=(Window.scored_from(tuple(range(2, 100)), 1),))

    def measured(actor: ModelActor, name: str) -> tuple[int, int, str]:
        assert actor.load(assignment(location, name, "float16", "cuda"), describe=True) is not None
        loading = actor.evaluate(LoadingPayload()).table.to_pylist()[0]
        actor.evaluate(noise)
        answer = actor.evaluate(prompts).table.to_pylist()[0]
        return loading["device_allocated_bytes"], loading["device_peak_bytes"], answer["text"]

    names = ("fp16", "int8", "nf4", "fp16")
    alone = []
    # What other tests left in this process.
    is_free("cuda")
    for name in names:
        actor = ModelActor()
        alone.append(measured(actor, name))
        assert is_free("cuda") is False
        del actor
        assert is_free("cuda")
    one = ModelActor()
    for name, (allocated, peak, text) in zip(names, alone, strict=True):
        found = measured(one, name)
        assert found[0] == pytest.approx(allocated, abs=2**20)
        assert found[1] == pytest.approx(peak, abs=2**20)
        assert found[2] == text
