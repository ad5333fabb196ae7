"""All that is in a GGUF file is measured, or the file is refused by the name of what is not.

A file in F16 of the very same weights predicts what the folder predicts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from numpy.typing import NDArray
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from actors.loading import load_model
from orchestrator.contract.gguf_content import GgufContent, GgufTensor
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.inputs.checkpoints import language_configuration
from orchestrator.inputs.gguf_architectures import ARCHITECTURES, READ_BY_TRANSFORMERS
from orchestrator.inputs.gguf_configuration import UnreadError, read_configuration
from orchestrator.inputs.gguf_files import read_gguf
from orchestrator.inputs.models import resolve_model
from orchestrator.inputs.sources import read_inputs
from orchestrator.settings import Settings
from tests.gguf_models import Extra, write_gguf
from tests.pipeline import write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_tiny_model, save_random_model

gguf = pytest.importorskip("gguf", reason="gguf is not installed")

LENGTH = 96
_SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
_HEAD: dict[str, Any] = {"head_dim": 16, "query_pre_attn_scalar": 16}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 32,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * n for n in range(8)],
    "long_factor": [2.0 + 0.5 * n for n in range(8)],
    "original_max_position_embeddings": 32,
}


def linear(writer: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def yarn(writer: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(64)


def longrope(writer: Any) -> None:
    writer.add_rope_scaling_orig_ctx_len(32)


def llama3_factors(factor: float = 8.0) -> dict[str, NDArray[Any]]:
    """What the converter writes for Llama 3.1 and later."""
    config = hf.LlamaConfig(**_SIZES, rope_parameters={**_LLAMA3, "factor": factor})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 10000.0 ** -(torch.arange(0, 16, 2).float() / 16)
    return {"rope_freqs.weight": (plain / scaled).numpy().astype(np.float32)}


@dataclass(frozen=True)
class Case:
    """A model, and what its file says beside what every file says."""

    config: Callable[[], Any]
    extra: Extra | None = None
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)


def of(kind: str, **more: Any) -> Callable[[], Any]:
    return lambda: getattr(hf, f"{kind}Config")(**{**_SIZES, **more})


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


CASES = {
    "llama": Case(of("Llama", rope_parameters=rope("default", rope_theta=500000.0))),
    "llama-bias": Case(of("Llama", attention_bias=True, mlp_bias=True)),
    "llama-3": Case(of("Llama", rope_parameters=_LLAMA3), tensors=llama3_factors()),
    "llama-linear": Case(of("Llama", rope_parameters=rope("linear", factor=8.0)), linear),
    "mistral": Case(of("Mistral", head_dim=32, sliding_window=None)),
    "qwen2": Case(of("Qwen2")),
    "qwen2-yarn": Case(
        of(
            "Qwen2",
            rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=64),
        ),
        yarn,
    ),
    "qwen2moe": Case(of("Qwen2Moe", **_EXPERTS, shared_expert_intermediate_size=64)),
    "qwen3": Case(of("Qwen3", head_dim=32)),
    "qwen3moe": Case(of("Qwen3Moe", **_EXPERTS, head_dim=16, norm_topk_prob=True)),
    "gemma2": Case(
        of(
            "Gemma2",
            **_HEAD,
            sliding_window=24,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        )
    ),
    "gemma3": Case(
        of(
            "Gemma3Text",
            **_HEAD,
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": rope("linear", factor=8.0, rope_theta=1e6),
                "sliding_attention": rope("default", rope_theta=5000.0),
            },
        ),
        lambda writer: (
            linear(writer),
            writer.add_array("gemma3.attention.sliding_window_pattern", [True, False]),
        )[0],
    ),
    "phi3": Case(of("Phi3", sliding_window=24)),
    "phi3-long": Case(
        of(
            "Phi3",
            sliding_window=None,
            original_max_position_embeddings=32,
            rope_parameters=_LONGROPE,
        ),
        longrope,
        {
            f"rope_factors_{kind}.weight": np.array(_LONGROPE[f"{kind}_factor"], np.float32)
            for kind in ("long", "short")
        },
    ),
    "starcoder2": Case(
        of("Starcoder2", sliding_window=None, rope_parameters=rope("default", rope_theta=1e5))
    ),
    "stablelm": Case(
        of(
            "StableLm",
            use_qkv_bias=True,
            rope_parameters=rope("default", partial_rotary_factor=0.25),
        )
    ),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tokenizer"), "llama")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Callable[[str], Path]:
    """The folder of a case, made once."""
    root, made = tmp_path_factory.mktemp("folders"), {}

    def folder_of(name: str) -> Path:
        if name not in made:
            made[name] = save_random_model(CASES[name].config(), root / name, tokenizer)
        return made[name]

    return folder_of


def file_of(name: str, folder: Path, path: Path) -> Path:
    case = CASES[name]
    return write_gguf(folder, path, extra=case.extra, tensors=case.tensors)


@torch.inference_mode()
def predictions(location: ModelLocation) -> torch.Tensor:
    model = load_model(location, VARIANTS["fp32"], torch.device("cpu"))
    ids = torch.arange(LENGTH).reshape(1, -1) * 37 % 500
    return model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)


def divergence(folder: Path, location: ModelLocation) -> float:
    """The mean KL of a file from its folder, in nats."""
    reference = predictions(ModelLocation(id_or_path=str(folder)))
    return float((reference.exp() * (reference - predictions(location))).sum(-1).mean())


@pytest.mark.parametrize("name", CASES)
def test_a_file_beside_its_folder_does_not_diverge(
    name: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = folders(name)
    file = file_of(name, folder, tmp_path / "model.gguf")
    model = language_configuration("model", folder, "--model")
    checkpoint = read_gguf(str(file), None, "--variants", model)
    assert checkpoint.contradictions == ()
    assert divergence(folder, checkpoint.location) <= 1e-6


@pytest.mark.parametrize("name", CASES)
def test_a_file_alone_says_it_all(
    name: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = folders(name)
    file = file_of(name, folder, tmp_path / "model.gguf")
    assert divergence(folder, resolve_model(str(file), None).checkpoint.location) <= 1e-6


@pytest.mark.parametrize(
    ("name", "extra", "tensors", "told"),
    [
        ("llama", linear, {}, "rope_parameters (rope_type, factor)"),
        ("llama-3", None, llama3_factors(4.0), "rope_parameters (rope_type, factor"),
        ("llama", None, llama3_factors(), "rope_freqs.weight"),
        (
            "gemma2",
            lambda writer: writer.add_float32("gemma2.attn_logit_softcapping", 7.0),
            {},
            "attn_logit_softcapping 7.0, not 2.0",
        ),
    ],
)
def test_what_a_file_says_is_measured_and_said(
    name: str,
    extra: Extra | None,
    tensors: dict[str, NDArray[Any]],
    told: str,
    folders: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = folders(name)
    without = ("attn_logit_softcapping",) if extra and name == "gemma2" else ()
    file = write_gguf(folder, tmp_path / "g.gguf", extra=extra, tensors=tensors, without=without)
    inputs = write_inputs(tmp_path / "inputs", SAMPLE_ROWS)
    settings = Settings(
        **inputs, model=str(folder), variants=("fp16", f"g={file}"), window_length=64
    )
    read = read_inputs(settings)
    (note,) = (str(note) for note in read.notes if "another model" in str(note))
    assert f"g: its GGUF file describes another model than {folder}" in note
    assert told in note
    # As it is by the file alone.
    beside = predictions(read.variants[1].checkpoint.location)
    alone = predictions(resolve_model(str(file), None).checkpoint.location)
    assert torch.allclose(beside, alone, atol=1e-5)
    assert divergence(folder, read.variants[1].checkpoint.location) > 1e-3


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("llama", "expert_count", 8),
        ("llama", "attention.clamp_kqv", 8.0),
        ("llama", "logit_scale", 0.5),
        ("llama", "rope.dimension_count", 8),
        ("llama", "rope.scaling.attn_factor", 1.2),
        ("llama", "rope.freq_base_swa", 5000.0),
        ("llama", "attention.value_length", 8),
        ("qwen2", "a.key.of.tomorrow", 1),
        ("phi3", "attention.causal", False),
    ],
)
def test_a_key_that_is_not_read_is_refused_by_name(
    architecture: str, key: str, value: Any, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    def say(writer: Any) -> None:
        kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
        kinds[type(value)](f"{architecture}.{key}", value)

    folder = folders(architecture)
    file = write_gguf(folder, tmp_path / "g.gguf", extra=say, without=(key,))
    told = rf"^--model: .*g\.gguf: not read here: {architecture}\.{key.replace('.', '[.]')};"
    if key == "rope.scaling.attn_factor":
        told = told.replace(f"{architecture}\\.", "")
    with pytest.raises(BadInputError, match=told):
        resolve_model(str(file), None)
    with pytest.raises(BadInputError, match=told.replace("--model", "--variants")):
        read_gguf(str(file), None, "--variants", json.loads((folder / "config.json").read_text()))


def test_a_tensor_that_nothing_reads_is_refused_by_name(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    bias = {"blk.1.attn_q.bias": np.ones(64, np.float32)}
    file = write_gguf(folders("llama"), tmp_path / "g.gguf", tensors=bias)
    location = resolve_model(str(file), None).checkpoint.location
    with pytest.raises(CannotLoadError, match=r"1 tensors .* no place .*\(blk\.1\.attn_q\.bias\)"):
        predictions(location)


def test_factors_of_layers_that_differ_are_refused(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write_gguf(folders("gemma3"), tmp_path / "g.gguf", tensors=llama3_factors())
    with pytest.raises(BadInputError, match=r"not read here: rope_freqs\.weight"):
        resolve_model(str(file), None)


def test_a_window_that_llama_cpp_leaves_out_is_said(tokenizer: Path, tmp_path: Path) -> None:
    config = hf.MistralConfig(**_SIZES, head_dim=32, sliding_window=24)
    folder = save_random_model(config, tmp_path / "folder", tokenizer)
    file = write_gguf(folder, tmp_path / "g.gguf")
    model = language_configuration("model", folder, "--model")
    found = read_gguf(str(file), None, "--variants", model)
    assert found.contradictions == ("no sliding_window, not 24",)


def _metadata(architecture: str, keys: dict[str, Any]) -> GgufContent:
    values = {f"{architecture}.{key}": value for key, value in keys.items()}
    tensors = {"token_embd.weight": GgufTensor((512, 64), 2**16, "F16", begin=0)}
    return GgufContent(architecture, values, tensors, factors={})


# As the reader of transformers names them, by llama.cpp's name.
KNOWN = {
    {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss"}.get(
        name, name.replace("minimax_m2", "minimax-m2")
    )
    for name in GGUF_CONFIG_MAPPING
    if name not in ("general", "tokenizer")
}


@pytest.mark.parametrize("architecture", sorted(KNOWN))
def test_of_every_architecture_that_transformers_reads_no_key_is_dropped(
    architecture: str, tmp_path: Path
) -> None:
    if architecture not in (*ARCHITECTURES, *READ_BY_TRANSFORMERS):
        # Encoders and decoders; `mistral` is llama.cpp's `llama`.
        assert architecture in ("mistral", "t5", "umt5")
        writer = gguf.GGUFWriter(tmp_path / "g.gguf", architecture)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(BadInputError, match=rf"of architecture '{architecture}' are not read"):
            resolve_model(str(tmp_path / "g.gguf"), None)
        return
    sizes: dict[str, Any] = dict.fromkeys(
        getattr(ARCHITECTURES.get(architecture), "keys", {"block_count": ""}), 2
    )
    read = read_configuration(_metadata(architecture, sizes), None)
    assert (read.values is None) == (architecture in READ_BY_TRANSFORMERS)
    for key, value in {
        "rope.scaling.type": "unheard-of",
        "attention.scale": 0.3,
        "router_logit_softcapping": 30.0,
        "a.key.of.tomorrow": 1,
    }.items():
        with pytest.raises(UnreadError, match=key.rpartition(".")[0]):
            read_configuration(_metadata(architecture, {**sizes, key: value}), None)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (lambda w: w.add_type("adapter"), r"g\.gguf is an adapter \(LoRA\); merge it"),
        (lambda w: w.add_type("mmproj"), r"g\.gguf is the part of a model that sees or hears"),
        (lambda w: w.add_uint16("split.count", 3), r"g\.gguf is one of 3 parts .*--merge"),
        (
            lambda w: w.add_uint32("tokenizer.ggml.new_id", 3),
            r"not read here: tokenizer\.ggml\.new",
        ),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused(
    extra: Extra, told: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write_gguf(folders("llama"), tmp_path / "g.gguf", extra=extra)
    with pytest.raises(BadInputError, match=told):
        resolve_model(str(file), None)
