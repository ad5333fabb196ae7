"""A model is run as its files say, or not at all."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from actors.loading import load_model
from actors.transformers_engine import TransformersEngine
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.stages import LoadingPayload
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sources import read_inputs
from orchestrator.inputs.tokenizer import ModelTokenizer
from orchestrator.planning.sizes import expected_weights_bytes
from orchestrator.settings import Settings
from tests.pipeline import assignment, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import copy_tokenizer, edit_json, make_tiny_model

CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


def edit_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    edit_json(folder / "config.json", **changes)


def load(folder: Path, variant: str = "fp16") -> Any:
    return load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], CPU)


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("lm_head.weight"), r"1 tensors are missing from its files \(lm_head\.weight\)"),
        (
            without("model.layers.1.mlp.up_proj.weight"),
            r"1 tensors are missing .*\(model\.layers\.1\.mlp\.up_proj\.weight\)",
        ),
        (
            lambda weights: {**weights, "model.layers.0.mlp.gate.weight": torch.ones(3)},
            r"1 tensors have no place .*\(model\.layers\.0\.mlp\.gate\.weight\)",
        ),
        (
            lambda weights: {f"wrapped.inner.{key}": value for key, value in weights.items()},
            r"21 tensors are missing .*, …\), 21 tensors have no place .*wrapped\.inner\.",
        ),
    ],
    ids=["no-head", "no-projection", "one-more", "prefix"],
)
def test_tensors_that_are_not_the_model_s_are_named(
    change: Callable[[Weights], Weights], named: str, variant: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    edit_weights(folder, change)
    with pytest.raises(CannotLoadError, match=rf"variant {variant} of .* is not whole: {named}"):
        load(folder, variant)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 3}, r"9 tensors are missing .*\(model\.layers\.2\."),
        ({"num_hidden_layers": 1}, r"9 tensors have no place .*\(model\.layers\.1\."),
    ],
)
def test_a_configuration_of_other_layers_is_refused(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, **change)
    with pytest.raises(CannotLoadError, match=named):
        load(folder)


def test_a_configuration_of_other_shapes_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, intermediate_size=96)
    with pytest.raises(CannotLoadError, match=r"variant fp16 of ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "int8", "nf4"])
def test_a_model_that_sees_the_future_is_refused(variant: str, tmp_path: Path) -> None:
    config = BertConfig(
        initializer_range=0.2,
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    copy_tokenizer(make_tiny_model(tmp_path / "other"), tmp_path)
    with pytest.raises(CannotLoadError, match="is no causal language model: its predictions"):
        TransformersEngine(assignment(ModelLocation(id_or_path=str(tmp_path)), variant))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "falcon-h1"])
def test_a_causal_model_is_not(variant: str, architecture: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, architecture)
    TransformersEngine(assignment(ModelLocation(id_or_path=str(folder)), variant))


def with_outliers(folder: Path) -> Path:
    """The folder with activations that LLM.int8 keeps in half precision, other ones by input."""

    def scaled(weights: Weights) -> Weights:
        return {
            name: 6 * value if name.endswith("layernorm.weight") else value
            for name, value in weights.items()
        }

    edit_weights(folder, scaled)
    return folder


def test_an_outlier_that_moves_others_rounding_is_no_look_into_the_future(tmp_path: Path) -> None:
    folder = with_outliers(make_tiny_model(tmp_path))
    engine = TransformersEngine(assignment(ModelLocation(id_or_path=str(folder)), "int8"))
    # The model is left as it was: later tokens do move the rounding of earlier ones.
    ids = torch.arange(40, 56).unsqueeze(0)
    other = torch.cat([ids[:, :8], 300 + ids[:, 8:]], dim=1)
    with torch.no_grad():
        first, second = (engine.held.model(input_ids=row).logits[0, :8] for row in (ids, other))
    assert (first - second).abs().max() > 1e-3 * first.abs().max()


@pytest.mark.parametrize(
    "section",
    [{"quant_method": "gptq", "bits": 4}, {"load_in_4bit": True}, {"quant_method": "fp8"}],
)
@pytest.mark.parametrize("where", ["quantization_config", "compression_config", "text_config"])
def test_a_quantized_model_is_no_original(
    where: str, section: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path)
    nested = {"quantization_config": section} if where == "text_config" else section
    edit_config(folder, **{where: nested})
    with pytest.raises(
        BadInputError, match=r"^--model: .* is already quantized \(.*name the model"
    ):
        resolve_model(str(folder), None)


@pytest.mark.parametrize("content", ["[]", "null", "{", '"text"'])
def test_a_configuration_that_is_none_is_told_in_one_line(content: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(BadInputError, match=r"^--model: .*config\.json"):
        resolve_model(str(folder), None)


def test_an_empty_text_section_is_no_section(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, text_config=None)
    assert resolve_model(str(folder), None).maximum_length == 128


def expected_and_held(folder: Path, variant: str) -> tuple[int | None, int]:
    checkpoint = resolve_model(str(folder), None).checkpoint
    loading = TransformersEngine(assignment(checkpoint.location, variant)).evaluate(
        LoadingPayload()
    )
    held: int = loading["weights_bytes"][0].as_py()
    return expected_weights_bytes(checkpoint.tensors, VARIANTS[variant]), held


@pytest.mark.parametrize("variant", ["fp16", "int8", "nf4", "nf4-dq"])
def test_experts_are_planned_as_they_are_held(variant: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", "mixtral")
    expected, held = expected_and_held(folder, variant)
    assert held == pytest.approx(expected, rel=0.002)
    if variant != "fp16":
        inputs = write_inputs(tmp_path, SAMPLE_ROWS)
        variants = ("fp16", variant)
        chosen = Settings(**inputs, model=str(folder), variants=variants, max_new_tokens=4)
        (note,) = map(str, read_inputs(chosen).notes)
        told = rf"^{variant}: \d+% of the weights are those of experts, which stay in 16 bits"
        assert re.match(told, note)


def sharded(folder: Path) -> Path:
    """The folder with its weights in two files and an index, as large models have them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in halves.items():
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
    index = {key: file for file, keys in halves.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    return folder


@pytest.mark.parametrize("several", [False, True])
def test_weights_that_lie_there_twice_are_counted_once(several: bool, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    if several:
        sharded(folder)
    before = resolve_model(str(folder), None).checkpoint
    save_file(weights, folder / "consolidated.safetensors", {"format": "pt"})
    after = resolve_model(str(folder), None).checkpoint
    assert after == before
    expected, held = expected_and_held(folder, "fp16")
    assert held == expected


def test_an_index_that_names_what_is_not_there_is_told(tmp_path: Path) -> None:
    folder = sharded(make_tiny_model(tmp_path))
    (folder / "b.safetensors").unlink()
    with pytest.raises(BadInputError, match=r"index\.json names b\.safetensors, not there; fetch"):
        resolve_model(str(folder), None)
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(BadInputError, match=r"index\.json cannot be read; fetch it again"):
        resolve_model(str(folder), None)


def test_a_tied_head_that_is_saved_as_well_is_counted_once(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, tied=True)
    edit_weights(
        folder,
        lambda weights: {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()},
    )
    expected, held = expected_and_held(folder, "fp16")
    assert held == expected


CUSTOM = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


def test_code_of_a_model_s_own_is_not_run_and_not_asked_about(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    edit_config(folder, model_type="own", auto_map=CUSTOM)
    (folder / "own.py").write_text("raise SystemExit('code of its own was run')\n")
    with pytest.raises(CannotLoadError, match="it brings code of its own, which is never run"):
        load(folder)
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": ["own.OwnTokenizer", None]},
    )
    with pytest.raises(BadInputError, match="it brings code of its own, which is never run"):
        ModelTokenizer(resolve_model(str(folder), None))
