"""The architectures of GGUF files that are read here key by key: plain data.

Names of keys are llama.cpp's, less the architecture's; of attributes, transformers'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# How a model turns its positions: not at all; whole heads; a part of each head; with another base
# in layers that see a sliding window.
RopeKind = Literal["none", "whole", "partial", "by-layer"]


@dataclass(frozen=True)
class GgufArchitecture:
    """How an architecture's metadata become a configuration.

    Attributes:
        model_type: of transformers.
        keys: what must be said, with the attribute that it sets.
        optional_keys: what may be said, likewise.
        flags: attributes that are true where a file has a tensor, by the tensor's name.
        alone: what llama.cpp takes as given where transformers' own default is another.
        model_types: of models that such a file may be made of.
    """

    model_type: str
    keys: Mapping[str, str]
    optional_keys: Mapping[str, str] = field(default_factory=dict)
    rope: RopeKind = "whole"
    flags: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, Any] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()


_SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_SHARED_HEADS = {"attention.head_count_kv": "num_key_value_heads"}
_HEADS = {**_SHARED_HEADS, "attention.key_length": "head_dim"}
_EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
_EXPERT_SIZE = {"expert_feed_forward_length": "moe_intermediate_size"}
_ATTENTION_BIAS = {"attention_bias": "blk.0.attn_q.bias"}
_SOFT_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_WINDOW = {"attention.sliding_window": "sliding_window"}

ARCHITECTURES: dict[str, GgufArchitecture] = {
    "llama": GgufArchitecture(
        "llama",
        {**_SIZES, **_RMS},
        _HEADS,
        flags={**_ATTENTION_BIAS, "mlp_bias": "blk.0.ffn_down.bias"},
        model_types=("mistral",),
    ),
    "qwen2": GgufArchitecture("qwen2", {**_SIZES, **_RMS}, _HEADS),
    "qwen2moe": GgufArchitecture(
        "qwen2_moe",
        {**_SIZES, **_RMS, **_EXPERTS, **_EXPERT_SIZE},
        {**_HEADS, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
    ),
    "qwen3": GgufArchitecture("qwen3", {**_SIZES, **_RMS}, _HEADS, flags=_ATTENTION_BIAS),
    "qwen3moe": GgufArchitecture(
        "qwen3_moe",
        {**_SIZES, **_RMS, **_EXPERTS, **_EXPERT_SIZE},
        _HEADS,
        flags=_ATTENTION_BIAS,
        alone={"norm_topk_prob": True},
    ),
    "phi3": GgufArchitecture(
        "phi3", {**_SIZES, **_RMS}, {**_SHARED_HEADS, **_WINDOW}, rope="partial"
    ),
    "gemma2": GgufArchitecture(
        "gemma2", {**_SIZES, **_RMS}, {**_HEADS, **_WINDOW, **_SOFT_CAPS}, flags=_ATTENTION_BIAS
    ),
    "gemma3": GgufArchitecture(
        "gemma3_text",
        {**_SIZES, **_RMS},
        {**_HEADS, **_WINDOW, **_SOFT_CAPS},
        rope="by-layer",
        flags=_ATTENTION_BIAS,
    ),
    "stablelm": GgufArchitecture(
        "stablelm",
        {**_SIZES, "attention.layer_norm_epsilon": "layer_norm_eps"},
        {**_SHARED_HEADS, "use_parallel_residual": "use_parallel_residual"},
        rope="partial",
        flags={"use_qkv_bias": "blk.0.attn_q.bias", "qk_layernorm": "blk.0.attn_q_norm.weight"},
    ),
    "starcoder2": GgufArchitecture(
        "starcoder2",
        {**_SIZES, "attention.layer_norm_epsilon": "norm_epsilon"},
        {**_SHARED_HEADS, **_WINDOW},
        flags={"use_bias": "blk.0.attn_q.bias"},
        alone={"sliding_window": None},
    ),
    "nemotron": GgufArchitecture(
        "nemotron",
        {**_SIZES, "attention.layer_norm_epsilon": "norm_eps"},
        _HEADS,
        rope="partial",
        flags={**_ATTENTION_BIAS, "mlp_bias": "blk.0.ffn_up.bias"},
    ),
    "gpt2": GgufArchitecture(
        "gpt2",
        {
            "block_count": "n_layer",
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        rope="none",
    ),
    "bloom": GgufArchitecture(
        "bloom",
        {
            "block_count": "n_layer",
            "embedding_length": "hidden_size",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        # It has no longest input, and its inner size is four times the outer.
        {"context_length": "seq_length", "feed_forward_length": "n_inner"},
        rope="none",
    ),
    "mamba": GgufArchitecture(
        "mamba",
        {
            "block_count": "num_hidden_layers",
            "embedding_length": "hidden_size",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
            "ssm.conv_kernel": "conv_kernel",
            "ssm.inner_size": "intermediate_size",
            "ssm.state_size": "state_size",
            "ssm.time_step_rank": "time_step_rank",
        },
        {"context_length": "max_position_embeddings"},
        rope="none",
        flags={"use_conv_bias": "blk.0.ssm_conv1d.bias"},
    ),
}

# Known to transformers' own reader, whose reading of the configuration is taken: any key that it
# does not name is refused.
READ_BY_TRANSFORMERS = ("deci", "falcon", "gemma4", "gpt-oss", "lfm2", "minimax-m2")
