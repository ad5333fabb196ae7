"""Checkpoints that others would have quantized, made of a model's folder.

Each is written by the format's own package where that can be had on a CPU, else by the format's
definition, in numpy. Linear layers are quantized, the output head and the embeddings are not.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from tests.tiny_models import copy_tokenizer, edit_json

GROUP = 32
# Weights `[out, in]` → what is left of them.
Restored = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# Where the eight 4-bit values of a 32-bit word lie in AWQ's layout.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def save_nf4(model: Path, folder: Path) -> Path:
    """NF4 as bitsandbytes and transformers save it."""
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    quantized: Any = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float16, quantization_config=quantization, device_map={"": "cpu"}
    )
    quantized.save_pretrained(folder)
    copy_tokenizer(model, folder)
    return folder


def save_compressed_tensors(model: Path, folder: Path) -> Path:
    """W4A16, symmetric, packed, by the package compressed-tensors."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float16)
    weights = QuantizationArgs(
        num_bits=4, type="int", symmetric=True, strategy="group", group_size=GROUP
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format="pack-quantized",
        quantization_status="compressed",
        ignore=["lm_head"],
    )
    apply_quantization_config(loaded, config)
    for module in loaded.modules():
        if hasattr(module, "weight_scale"):
            grouped = module.weight.data.float().unflatten(1, (-1, GROUP))
            module.weight_scale.data = (grouped.abs().amax(2) / 7.5).to(torch.float16)
    compressor = ModelCompressor.from_pretrained_model(loaded, quantization_format="pack-quantized")
    compressor.compress_model(loaded)
    loaded.save_pretrained(folder)
    compressor.update_config(folder)
    copy_tokenizer(model, folder)
    return folder


def save_awq(model: Path, folder: Path) -> Path:
    """AWQ's layout (Lin et al., 2023; AutoAWQ's `gemm`), rounded to the nearest."""

    def packed(weight: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        values, zeros, scales = _rounded(weight)
        return {
            "qweight": _words(values.T, _AWQ_ORDER),
            "qzeros": _words(zeros.T, _AWQ_ORDER),
            "scales": scales.T,
        }

    section = {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "modules_to_not_convert": ["lm_head"],
    }
    return _repacked(model, folder, packed, section)


def save_gptq(model: Path, folder: Path) -> Path:
    """GPTQ's layout (Frantar et al., 2022; AutoGPTQ's first version), rounded to the nearest."""

    def packed(weight: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        values, zeros, scales = _rounded(weight)
        order = range(8)
        return {
            "qweight": _words(values, order).T,
            "qzeros": _words(zeros.T - 1, order),
            "scales": scales.T,
            "g_idx": np.arange(weight.shape[1], dtype=np.int32) // GROUP,
        }

    section = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": GROUP,
        "sym": False,
        "desc_act": False,
        "checkpoint_format": "gptq",
    }
    return _repacked(model, folder, packed, section)


def _rounded(weight: NDArray[np.float32]) -> tuple[NDArray[np.int32], ...]:
    """Values `[out, in]`, zeros and float16 scales `[out, groups]`, of 4 bits, rounded.

    A weight is (value - zero) · scale.
    """
    grouped = weight.reshape(len(weight), -1, GROUP)
    low, high = grouped.min(2), grouped.max(2)
    scales = np.maximum((high - low) / 15, 1e-4).astype(np.float16)
    wide = scales.astype(np.float32)
    # GPTQ keeps a zero less one, in four bits.
    zeros = np.clip(np.rint(-low / wide), 1, 15).astype(np.int32)
    values = np.clip(np.rint(grouped / wide[..., None]) + zeros[..., None], 0, 15)
    return values.astype(np.int32).reshape(weight.shape), zeros, scales


def _words(values: NDArray[np.int32], order: Any) -> NDArray[np.int32]:
    """Eight values of a row in a word, the first of `order` in its lowest bits."""
    grouped = values.astype(np.uint32).reshape(len(values), -1, 8)
    words = np.zeros(grouped.shape[:2], dtype=np.uint32)
    for place, chosen in enumerate(order):
        words |= (grouped[..., chosen] & 15) << np.uint32(4 * place)
    return words.view(np.int32)


def plain_model(model: Path, folder: Path, restored: Restored) -> Path:
    """A plain model whose linear layers are what their quantized ones stand for, in float32."""
    shutil.copytree(model, folder)
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    for name in filter(_is_linear, list(weights)):
        weights[name] = torch.from_numpy(restored(weights[name].numpy()).astype(np.float32))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", dtype="float32")
    return folder


def asymmetric(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `save_awq` and `save_gptq` keep of a weight."""
    values, zeros, scales = _rounded(weight)
    grouped = values.reshape(len(values), -1, GROUP) - zeros[..., None]
    return (grouped * scales.astype(np.float32)[..., None]).reshape(weight.shape)


def symmetric(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `save_compressed_tensors` keeps of a weight."""
    grouped = torch.from_numpy(weight).reshape(len(weight), -1, GROUP)
    scales = (grouped.abs().amax(2, keepdim=True) / 7.5).half()
    # The package divides in float16, whose rounding may cross a half.
    values = torch.round(grouped.half() / scales).float().clamp(-8, 7)
    return (values * scales.float()).reshape(weight.shape).numpy()


def ggml(kind: str) -> Restored:
    """What `write_gguf` keeps of a weight, as llama.cpp's own Python package reads it.

    In float16, which is what a GGUF file is expanded to here.
    """
    import gguf

    def restored(weight: NDArray[np.float32]) -> NDArray[np.float32]:
        blocks = quantized_blocks(weight, kind)
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        return values.astype(np.float16).astype(np.float32)

    return restored


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def _repacked(
    model: Path,
    folder: Path,
    packed: Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]],
    section: dict[str, Any],
) -> Path:
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    for name in filter(_is_linear, list(weights)):
        parts = packed(weights.pop(name).float().numpy())
        for part, values in parts.items():
            weights[f"{name.removesuffix('weight')}{part}"] = torch.from_numpy(values.copy())
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", quantization_config=section)
    return folder


_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_GGUF_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def write_gguf(model: Path, path: Path, kind: str, architecture: str = "qwen2") -> Path:
    """A GGUF file of a Qwen2 model (whose attention llama.cpp does not permute).

    Args:
        kind: the type of the linear layers: Q4_0, Q8_0, Q4_K or F16.
    """
    import gguf

    config = AutoModelForCausalLM.from_pretrained(model).config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, model)
    for name, tensor in load_file(model / "model.safetensors").items():
        values = tensor.float().numpy()
        if _is_linear(name) and kind != "F16":
            data, raw = quantized_blocks(values, kind), gguf.GGMLQuantizationType[kind]
            writer.add_tensor(_gguf_name(name), data, raw_dtype=raw)
        else:
            plain = values if values.ndim == 1 else values.astype(np.float16)
            writer.add_tensor(_gguf_name(name), plain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    stem, ending = name.rsplit(".", 1)
    if stem in _GGUF_TOP:
        return f"{_GGUF_TOP[stem]}.{ending}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[part]}.{ending}"


def _add_tokenizer(writer: Any, model: Path) -> None:
    import json

    content = json.loads((model / "tokenizer.json").read_text())
    vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(model).get_vocab()
    special = {token["content"] for token in content["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    merges = content["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(vocabulary[next(t for t in tokens if t in special)])


def quantized_blocks(values: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """`[out, in]` → the bytes of its blocks, `[out, bytes of a row]`."""
    import gguf

    if kind != "Q4_K":
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    blocks = values.reshape(-1, 8, 32)
    return np.stack([_q4_k_block(block) for block in blocks]).reshape(len(values), -1)


def _q4_k_block(block: NDArray[np.float32]) -> NDArray[np.uint8]:
    """256 weights as llama.cpp's Q4_K: eight groups of w = d·scale·q - dmin·minimum.

    d and dmin in float16, the groups' scales and minima in 6 bits each (packed in 12 bytes), the q
    in 4 bits. Plainly rounded: llama.cpp searches for better scales, in the same layout.
    """
    minima = np.maximum(0, -block.min(1))
    scales = np.maximum((block.max(1) + minima) / 15, 1e-8)
    d, dmin = np.float16(scales.max() / 63), np.float16(max(minima.max() / 63, 1e-8))
    six_scales = np.clip(np.rint(scales / np.float32(d)), 1, 63).astype(np.uint8)
    six_minima = np.clip(np.rint(minima / np.float32(dmin)), 0, 63).astype(np.uint8)
    wide = np.float32(d) * six_scales[:, None]
    q = np.rint((block + np.float32(dmin) * six_minima[:, None]) / wide)
    q = np.clip(q, 0, 15).astype(np.uint8)
    packed = np.zeros(12, dtype=np.uint8)
    packed[:4] = (six_scales[:4] & 63) | ((six_scales[4:] >> 4) << 6)
    packed[4:8] = (six_minima[:4] & 63) | ((six_minima[4:] >> 4) << 6)
    packed[8:] = (six_scales[4:] & 15) | ((six_minima[4:] & 15) << 4)
    nibbles = (q[0::2] | (q[1::2] << 4)).reshape(-1)
    halves = np.array([d, dmin], dtype=np.float16).view(np.uint8)
    return np.concatenate([halves, packed, nibbles])
