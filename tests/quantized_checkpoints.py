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
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.gguf_models import quantized_blocks
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


def save_fp8(model: Path, folder: Path) -> Path:
    """FP8 in blocks of 128 by 128, activations rounded as they come (DeepSeek-V3's layout)."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    for name in filter(_is_linear, list(weights)):
        weight = weights[name].float()
        rows, columns = (-(-size // 128) for size in weight.shape)
        padded = torch.zeros(rows * 128, columns * 128)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        blocks = padded.unflatten(0, (rows, 128)).unflatten(2, (columns, 128))
        scales = blocks.abs().amax((1, 3), keepdim=True) / 448
        rounded = (blocks / scales).flatten(2).flatten(0, 1)
        kept = rounded[: weight.shape[0], : weight.shape[1]].contiguous()
        weights[name] = kept.to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scales[:, 0, :, 0].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    section = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head"],
    }
    edit_json(folder / "config.json", quantization_config=section)
    return folder


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
    """What `gguf_models.write_gguf` keeps of a weight, as llama.cpp's own Python package reads it.

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
