"""Formats that are served: emulated where nothing multiplies them, and marked so."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.kernels import kernel_of
from actors.loading import load_model
from actors.rounding import rounded
from orchestrator.contract.formats import FORMATS
from orchestrator.contract.kernels import is_emulated
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from orchestrator.figures.comparison import compare
from orchestrator.inputs.weight_files import TensorShape
from orchestrator.planning.sizes import expected_weights_bytes, resident_bytes
from orchestrator.storage.reduce import join_shards
from orchestrator.storage.results_folder import run_at
from tests.models.actors.test_streaming import make_model
from tests.pipeline import FinishedRun, make_test_plan, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
H100, A100 = (9, 0), (8, 0)


def test_who_multiplies_what() -> None:
    fp8, w8a8, mxfp4 = (VARIANTS[name] for name in ("fp8", "w8a8", "mxfp4"))
    assert not is_emulated(fp8, "bfloat16", H100)
    # Neither an older card, nor a processor, nor another dtype.
    assert is_emulated(fp8, "bfloat16", A100) and is_emulated(fp8, "float32", None)
    assert is_emulated(fp8, "float16", H100)
    assert not is_emulated(w8a8, "float32", None) and not is_emulated(w8a8, "float16", H100)
    assert is_emulated(mxfp4, "float16", H100)
    tile = VARIANTS["torchao-int4-tile"]
    assert is_emulated(tile, "float32", None) and not is_emulated(tile, "bfloat16", A100)
    assert not is_emulated(VARIANTS["nf4"], "float32", None)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("fp8", 8 + 32 / 512), ("w8a8", 8 + 40 / 512), ("mxfp4", 4.25), ("mxfp8", 8.25)],
)
def test_sizes_are_those_of_the_format(name: str, bits: float) -> None:
    tensors = [TensorShape("model.layers.0.mlp.up_proj.weight", (96, 512), 2 * 96 * 512)]
    variant = VARIANTS[name]
    assert expected_weights_bytes(tensors, variant) == 96 * 512 * bits / 8
    assert resident_bytes(tensors, variant, "float16", emulated=True) == 96 * 512 * 2


def test_nvfp4_has_a_scale_of_the_tensor_too_and_rows_without_whole_blocks_stay() -> None:
    assert FORMATS["nvfp4"].bytes_of(96, 512) == 96 * 512 // 2 + 96 * 512 // 16 + 4
    assert FORMATS["nvfp4"].bytes_of(96, 500) is None
    assert FORMATS["fp8"].bytes_of(96, 500) == 96 * 500 + 4 * 96


@pytest.mark.parametrize("architecture", ["mistral", "gpt2"])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4-a4", "fp8"])
def test_linear_layers_are_rounded_and_their_inputs_where_the_format_says_so(
    name: str, architecture: str, tmp_path: Path
) -> None:
    folder, variant, form = make_model(tmp_path, architecture), VARIANTS[name], FORMATS[name]
    location = ModelLocation(id_or_path=str(folder))
    model = load_model(location, variant, CPU, emulated=True)
    dtype = getattr(torch, variant.weights_dtype)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    modules = dict(plain.named_modules())
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and name != "lm_head"
    ]
    assert len(linear) == (14 if architecture == "mistral" else 12)
    for place, module in linear:
        weights, own = modules[place].weight.data, module.weight.data
        if architecture == "gpt2":
            weights, own = weights.T, own.T
        assert torch.equal(own, rounded(weights.contiguous(), form.weights)), place
        assert not torch.equal(own, weights)
    place, module = linear[0]
    inputs = torch.randn(2, 3, module.weight.shape[architecture == "mistral"]).to(dtype)
    seen = inputs if form.activations is None else rounded(inputs, form.activations)
    with torch.inference_mode():
        alike = type(module).forward(module, seen)
        assert torch.equal(module(inputs), alike)
    # Embedding, head and norms are the model's own.
    assert torch.equal(model.lm_head.weight, plain.lm_head.weight)
    kernel = kernel_of(model, variant, CPU)
    assert kernel is not None and kernel.startswith("emulated: rounded as the format has it")


def test_what_is_computed_in_another_dtype_than_its_reference_says_so(
    finished_run: FinishedRun,
) -> None:
    folder = run_at(finished_run.folder)
    manifest = folder.read_manifest()
    variants = [
        one.model_copy(update={"compute_dtype": "bfloat16"}) if one.variant == "nf4" else one
        for one in manifest.variants
    ]
    tables = join_shards(folder, manifest.model_copy(update={"variants": tuple(variants)}))
    notes = compare(tables, manifest).notes
    assert [note for note in notes if "computed in" in note] == [
        "nf4: computed in bfloat16, fp16 in float32: what that rounds otherwise is in its "
        "divergence, too."
    ]


def test_a_sweep_marks_what_is_emulated_and_counts_what_is_left(tmp_path: Path) -> None:
    """Rows are of 72, 128 and 144 weights."""
    names = ("fp16", "fp8", "w8a8", "mxfp4", "nvfp4-a4")
    plan = make_test_plan(
        **write_inputs(tmp_path, SAMPLE_ROWS, prompts=2),
        model=str(make_tiny_model(tmp_path / "model", hidden=72)),
        variants=names,
        window_length=32,
        max_windows=4,
        max_new_tokens=2,
        results=tmp_path,
    )
    comparison = run_in_process(plan)
    for name in ("fp8", "mxfp4", "nvfp4-a4"):
        figures = comparison.variants[name]
        assert figures.memory.expanded and figures.own_latency == {}
        assert figures.memory.size_bytes == figures.memory.expected_weights_bytes
        assert any(note.startswith(f"{name}: emulated: ") for note in comparison.notes)
    multiplied = comparison.variants["w8a8"]
    assert multiplied.linear == "torchao Int8Tensor" and multiplied.own_latency
    assert multiplied.memory.weights_bytes == multiplied.memory.expected_weights_bytes
    assert not any("computed in" in note for note in comparison.notes)
    # 72 is no whole number of blocks; of `down_proj` 144 is of 16, and `o_proj` has 128 inputs.
    left = {note.partition(":")[0]: note for note in comparison.notes if "do not divide" in note}
    assert left["mxfp4"].startswith(
        "mxfp4: 12 of 14 linear weights have rows that its blocks of 32"
    )
    assert left["nvfp4-a4"].startswith("nvfp4-a4: 10 of 14 linear weights")
    assert set(left) == {"mxfp4", "nvfp4-a4"}
