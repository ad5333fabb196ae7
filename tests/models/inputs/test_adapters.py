"""LoRA adapters: merged into the model that they are of, or refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.loading import load_model
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import read_inputs
from orchestrator.settings import Settings
from tests import oracle
from tests.pipeline import make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import edit_json, make_tiny_model

pytest.importorskip("peft", reason="peft is not installed")

RANK, ALPHA = 4, 8
_LAYER = "model.layers.{}.self_attn.q_proj"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model")


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    return {**write_inputs(tmp_path / "inputs", SAMPLE_ROWS), "max_windows": 2, "max_prompts": 1}


def matrices(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(2):
        name = f"base_model.model.{_LAYER.format(layer)}"
        found[f"{name}.lora_A.weight"] = 0.3 * torch.randn(RANK, 64, generator=generator)
        found[f"{name}.lora_B.weight"] = 0.3 * torch.randn(128, RANK, generator=generator)
    return found


def save_adapter(folder: Path, base: str, seed: int = 0, **more: Any) -> Path:
    """A LoRA adapter as peft saves it."""
    folder.mkdir(exist_ok=True)
    save_file(matrices(seed), folder / "adapter_model.safetensors")
    edit_json(
        folder / "adapter_config.json",
        peft_type="LORA",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=["q_proj"],
        **more,
    )
    return folder


def merged(model: Path, folder: Path, seed: int = 0) -> Path:
    """The model with W + (alpha / r) · B · A, by definition (Hu et al., 2021), in float32."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    parts = matrices(seed)
    for layer in range(2):
        name = _LAYER.format(layer)
        a, b = (parts[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        whole = weights[f"{name}.weight"].float() + ALPHA / RANK * (b @ a)
        weights[f"{name}.weight"] = whole.to(torch.float16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_adapter_is_measured_as_its_model_with_it_merged(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    lora = save_adapter(tmp_path / "lora", str(model))
    whole = merged(model, tmp_path / "whole")
    plan = make_test_plan(
        **inputs,
        model=str(model),
        variants=("fp16", f"lora={lora}", f"whole={whole}"),
        results=tmp_path / "results",
    )
    comparison = run_in_process(plan)
    lora_figures, whole_figures = (comparison.variants[name] for name in ("lora", "whole"))
    assert lora_figures.kl and whole_figures.kl
    assert (lora_figures.kl.mean.value or 0) > 1e-3
    # A sum in another order may fall on the other side of float16's rounding.
    assert lora_figures.kl.mean.value == pytest.approx(whole_figures.kl.mean.value, rel=1e-3)
    windows = plan.inputs.windows
    losses = [
        oracle.token_measures(q, q, list(w.target_ids))["candidate_negative_log_likelihood"]
        for q, w in zip(oracle.scored_logits(whole, "fp16", windows), windows, strict=True)
    ]
    expected = torch.tensor([loss for part in losses for loss in part]).mean().exp()
    assert lora_figures.perplexity.value == pytest.approx(float(expected), rel=1e-3)
    memory = lora_figures.memory
    assert memory.weights_bytes == memory.expected_weights_bytes
    said = f"lora: the adapter {lora} is merged into the weights of {model} in float32, then cast "
    assert any(note.startswith(said) for note in comparison.notes)
    assert f"| lora | {model} with {lora} |" in markdown_of(comparison)


def test_another_adapter_under_the_same_name_is_another_variant(
    model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    def fingerprints(seed: int) -> dict[str, str]:
        lora = save_adapter(tmp_path / "lora", str(model), seed)
        plan = make_test_plan(
            **inputs, model=str(model), variants=("fp16", f"lora={lora}"), results=tmp_path
        )
        return {s.record.variant: s.record.fingerprint for s in plan.shards}

    one, other = fingerprints(0), fingerprints(1)
    assert one["fp16"] == other["fp16"]
    assert one["lora"] != other["lora"]


@pytest.mark.parametrize("setting", ["--model", "--variants"])
def test_an_adapter_beside_full_weights_is_refused_with_the_choice(
    setting: str, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    both = save_adapter(Path(shutil.copytree(model, tmp_path / "both")), str(model))
    chosen = {
        "--model": {"model": str(both), "variants": ("fp16",)},
        "--variants": {"model": str(model), "variants": ("fp16", f"mine={both}")},
    }[setting]
    told = rf"^{setting}: .*both holds full weights and an adapter .*keep one of both: remove"
    with pytest.raises(BadInputError, match=told):
        read_inputs(Settings(**inputs, **chosen))


def test_an_adapter_is_no_model(model: Path, inputs: dict[str, Any], tmp_path: Path) -> None:
    lora = save_adapter(tmp_path / "lora", str(model))
    with pytest.raises(BadInputError, match=r"^--model: .*lora is an adapter; name the model"):
        read_inputs(Settings(**inputs, model=str(lora), variants=("fp16",)))


@pytest.mark.parametrize(
    ("base", "fits"),
    [
        ("{model}", True),
        ("", True),
        ("/gone/since/then/model", True),
        ("org/model", True),
        ("{other}", False),
        ("org/another", False),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    base: str, fits: bool, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "elsewhere" / "model", seed=3)
    lora = save_adapter(tmp_path / "lora", base.format(model=model, other=other))
    chosen = Settings(**inputs, model=str(model), variants=("fp16", f"lora={lora}"))
    if fits:
        read_inputs(chosen)
        return
    with pytest.raises(BadInputError, match=rf"lora is an adapter of .*, and --model is {model}"):
        read_inputs(chosen)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("lost", r"1 tensors of its adapter are missing or have no place .*lora_A"),
        ("astray", r"1 tensors of its adapter are missing or have no place .*layers\.9"),
        ("kind", r"its adapter cannot be merged \("),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused_in_one_line(
    change: str, told: str, model: Path, inputs: dict[str, Any], tmp_path: Path
) -> None:
    lora = save_adapter(tmp_path / "lora", str(model))
    weights = load_file(lora / "adapter_model.safetensors")
    name = f"base_model.model.{_LAYER.format(1)}.lora_A.weight"
    if change == "lost":
        del weights[name]
    if change == "astray":
        weights[name.replace("layers.1", "layers.9")] = weights[name].clone()
    if change == "kind":
        edit_json(lora / "adapter_config.json", peft_type="TOMORROWS")
    save_file(weights, lora / "adapter_model.safetensors")
    chosen = Settings(**inputs, model=str(model), variants=("fp16", f"lora={lora}"))
    mine = read_inputs(chosen).variants[1]
    with pytest.raises(CannotLoadError, match=told) as caught:
        load_model(mine.checkpoint.location, mine.variant, torch.device("cpu"))
    assert "\n" not in str(caught.value)
