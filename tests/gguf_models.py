"""GGUF files as llama.cpp's converter writes them: its names, keys, permutations and offsets."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

# By transformers' type of model.
_ARCHITECTURES = {
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2_moe": "qwen2moe",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
}
# What goes with an architecture beside the sizes that all have: (key, attribute).
_OWN_KEYS = {
    "qwen2moe": (
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    ),
    "qwen3moe": (
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
    ),
    "gemma2": (
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("attention.sliding_window", "sliding_window"),
    ),
    "gemma3": (("attention.sliding_window", "sliding_window"),),
    "phi3": (("attention.sliding_window", "sliding_window"),),
    "stablelm": (("use_parallel_residual", "use_parallel_residual"),),
}
_CONTROL, _NORMAL = 3, 1
Extra = Callable[[Any], None]


def write_gguf(
    model: Path,
    path: Path,
    kind: str = "F16",
    *,
    architecture: str | None = None,
    extra: Extra | None = None,
    tensors: Mapping[str, NDArray[Any]] | None = None,
    without: tuple[str, ...] = (),
    splits: str | None = None,
) -> Path:
    """A GGUF file of a folder.

    Args:
        kind: the type of the linear layers: F16, Q8_0, Q4_0 or Q4_K.
        architecture: what the file says that it is.
        extra: adds to the writer what else is to be said.
        tensors: what else is in it, by name.
        without: keys, less the architecture's name, that are left out.
        splits: how the file calls the way that its tokenizer splits text; by the folder's class
            unless it is given.
    """
    import gguf

    config = AutoConfig.from_pretrained(model)
    name = _ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, architecture or name)
    for key, value in _said(config, name).items():
        if key not in without and value is not None:
            _say(writer, f"{architecture or name}.{key}", value)
    if extra is not None:
        extra(writer)
    _add_tokenizer(writer, model, splits)
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    for tensor, values in _kept(model, config, name).items():
        gguf_name = str(names.get_name(tensor, (".weight", ".bias")))
        if values.ndim == 1:
            writer.add_tensor(gguf_name, values)
        elif kind != "F16" and tensor.endswith("_proj.weight"):
            blocks = quantized_blocks(values, kind)
            writer.add_tensor(gguf_name, blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            writer.add_tensor(gguf_name, values.astype(np.float16))
    for tensor, values in (tensors or {}).items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _said(config: Any, name: str) -> dict[str, Any]:
    """The hyperparameters that the converter writes of any such model."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    local = rope.get("sliding_attention", {})
    rope = rope.get("full_attention", rope)
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": getattr(
            config, "norm_epsilon", getattr(config, "layer_norm_eps", None)
        ),
        "rope.dimension_count": int(head * rope.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": rope["rope_theta"],
        "rope.freq_base_swa": local.get("rope_theta"),
        "vocab_size": config.vocab_size,
        **{key: getattr(config, attribute) for key, attribute in _OWN_KEYS.get(name, ())},
    }


def _say(writer: Any, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds[type(value)](key, value)


def _kept(model: Path, config: Any, name: str) -> dict[str, NDArray[np.float32]]:
    """The tensors as the converter lays them out; a layer's experts are one."""
    kept: dict[str, NDArray[np.float32]] = {}
    experts: dict[str, list[NDArray[np.float32]]] = {}
    for tensor, weight in sorted(load_file(model / "model.safetensors").items()):
        values = weight.float().numpy()
        part = tensor.split(".")[-2]
        if name == "llama" and part in ("q_proj", "k_proj"):
            heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
            halves = values.reshape(heads, 2, len(values) // heads // 2, -1)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        if name.startswith("gemma") and tensor.endswith("norm.weight"):
            values = values + 1
        if tensor.endswith("shared_expert_gate.weight"):
            values = values[0]
        whole = re.sub(r"experts\.\d+\.(\w+)\.weight", r"experts.\1.weight", tensor)
        if whole != tensor:
            experts.setdefault(whole, []).append(values)
        else:
            kept[tensor] = values
    return kept | {tensor: np.stack(values) for tensor, values in experts.items()}


def _add_tokenizer(writer: Any, model: Path, splits: str | None) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = {token["content"] for token in content["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    usual = "qwen2" if "Qwen2" in type(tokenizer).__name__ else "gpt-2"
    pieces = content["model"].get("byte_fallback", False)
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre(splits or usual)
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    merges = content["model"]["merges"]
    if pieces:
        # As SentencePiece has them: what is merged first has the best score.
        ranks = {"".join(merge): -float(rank) for rank, merge in enumerate(merges)}
        writer.add_token_scores([ranks.get(token, -1e6) for token in tokens])
        writer.add_unk_token_id(tokenizer.unk_token_id)
    else:
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)


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
