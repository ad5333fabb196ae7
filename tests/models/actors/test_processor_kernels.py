"""What a variant computes does not depend on what the processor can do."""

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from actors.held_model import hold_model
from orchestrator.contract.shards import ModelLocation
from tests import oracle
from tests.pipeline import assignment, make_test_plan, run_in_process, write_inputs
from tests.quantized_checkpoints import save_fp8, save_nf4
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import edit_json, make_tiny_model


def four_bit_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]


@pytest.mark.parametrize("variant", ["nf4", "nf4-dq", "fp4"])
def test_four_bit_layers_multiply_in_float32_on_every_processor(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: True)
    folder = make_tiny_model(tmp_path / "model")
    held = hold_model(assignment(ModelLocation(id_or_path=str(folder)), variant))
    assert held.loading["kernel"] == "4-bit weights expanded to float32 and multiplied by torch"
    layers = four_bit_layers(held.model)
    assert len(layers) == 14
    for layer in layers:
        state = layer.weight.quant_state
        assert not getattr(state, "packing_format_for_cpu", False)
        weight = oracle.expanded(layer).double()
        inputs = torch.randn(8, weight.shape[1], generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            found = layer(inputs).double()
        expected = inputs.double() @ weight.T
        assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.parametrize("rows", [48, 130])
def test_rows_need_be_no_multiple_of_anything(rows: int, tmp_path: Path) -> None:
    """As those of a router to experts, or of a layer that was cut."""
    folder = make_tiny_model(tmp_path / "model")
    config = MistralConfig.from_pretrained(folder, intermediate_size=rows)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.save_pretrained(folder)
    hold_model(assignment(ModelLocation(id_or_path=str(folder)), "nf4"))


def test_perplexity_is_that_of_the_weights_that_it_holds(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS)
    saved = save_nf4(folder, tmp_path / "saved")
    edit_json(saved / "config.json", dtype="float16")
    plan = make_test_plan(
        **inputs,
        model=str(folder),
        variants=("fp16", "nf4", f"saved={saved}"),
        max_prompts=0,
        results=tmp_path / "results",
    )
    comparison = run_in_process(plan)
    expected = oracle.perplexities(folder, SAMPLE_ROWS, "concat", variant="nf4", length=128)
    for name in ("nf4", "saved"):
        figures = comparison.variants[name]
        assert figures.perplexity.value == pytest.approx(expected.perplexity, rel=1e-5)
        assert figures.kernel == "4-bit weights expanded to float32 and multiplied by torch"
    assert comparison.variants["fp16"].kernel is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="transformers expects FP8 on the GPU here")
def test_a_format_without_a_kernel_here_is_said_to_be_expanded(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", hidden=128)
    plan = make_test_plan(
        **write_inputs(tmp_path / "inputs", SAMPLE_ROWS),
        model=str(folder),
        variants=("fp16", f"mine={save_fp8(folder, tmp_path / 'fp8')}"),
        max_windows=2,
        max_prompts=0,
        results=tmp_path / "results",
    )
    comparison = run_in_process(plan)
    kl = comparison.variants["mine"].kl
    assert kl
    assert (kl.mean.value or 0) > 1e-3
    assert (
        "mine: its format (fp8) has no kernel here: weights expanded to float32 when loaded, "
        "activations not rounded." in comparison.notes
    )
