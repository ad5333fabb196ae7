"""What is merged, expanded or read from a file on a real GPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch
import transformers as hf

from actors.held_model import hold_model
from orchestrator.contract.shards import Assignment, ModelLocation, OneDevice
from orchestrator.contract.variants import AdapterVariant, GgufVariant
from orchestrator.inputs.adapters import read_adapter
from orchestrator.inputs.checkpoints import language_configuration, locate
from orchestrator.inputs.gguf_files import read_gguf
from orchestrator.inputs.models import resolve_model
from tests.models.inputs.test_adapters import merged, save_adapter
from tests.models.inputs.test_gguf_configuration import CASES, file_of
from tests.pipeline import assignment
from tests.tiny_models import make_tiny_model, save_random_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

GPU = OneDevice(device="cuda")


@torch.inference_mode()
def predictions(chosen: Assignment) -> torch.Tensor:
    model = hold_model(chosen).model
    ids = torch.arange(96, device="cuda").reshape(1, -1) * 37 % 500
    return model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("name", ["llama-3", "gemma2", "phi3-long", "qwen2-yarn", "qwen3moe"])
def test_a_gguf_file_does_not_diverge_from_its_folder(name: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    tokenizer = make_tiny_model(tmp_path / "tokenizer", "llama")
    folder = save_random_model(CASES[name].config(), tmp_path / "folder", tokenizer)
    file = file_of(name, folder, tmp_path / "model.gguf")
    model = language_configuration("model", folder, "--model")
    held = Assignment(
        location=read_gguf(str(file), None, "--variants", model).location,
        variant=GgufVariant(name="g", weights_dtype="float16", method=None),
        compute_dtype="float32",
        placement=GPU,
        threads=1,
    )
    whole = assignment(ModelLocation(id_or_path=str(folder)), "fp16", device="cuda")
    assert divergence(predictions(whole), predictions(held)) <= 1e-6


def test_an_adapter_is_merged_before_it_goes_to_the_device(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = make_tiny_model(tmp_path / "model")
    model = resolve_model(str(folder), None)
    lora = save_adapter(tmp_path / "lora", str(folder))
    held = Assignment(
        location=read_adapter(
            str(lora), *locate(str(lora), None, "--variants"), "--variants", model
        ).location,
        variant=AdapterVariant(name="lora", weights_dtype="float16"),
        compute_dtype="float32",
        placement=GPU,
        threads=1,
    )
    whole = merged(folder, tmp_path / "whole")
    expected = assignment(ModelLocation(id_or_path=str(whole)), "fp16", device="cuda")
    base = assignment(model.checkpoint.location, "fp16", device="cuda")
    found = predictions(held)
    assert divergence(predictions(expected), found) <= 1e-3
    assert divergence(predictions(base), found) > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gemma_2s_soft_cap_is_applied(dtype: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", "gemma2")
    chosen = assignment(ModelLocation(id_or_path=str(folder)), "fp16", dtype, "cuda")  # type: ignore[arg-type]
    found = predictions(chosen)
    plain = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ids = torch.arange(96).reshape(1, -1) * 37 % 500
    with torch.inference_mode():
        expected = plain.float()(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    assert divergence(expected, found.cpu()) <= (1e-6 if dtype == "float32" else 1e-3)
