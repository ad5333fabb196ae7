"""What a tensor is for, by its name: which ones quantization takes, and which it leaves."""

from typing import Literal

from orchestrator.inputs.weight_files import TensorShape

Role = Literal["linear", "embedding", "head", "router", "other"]

_EMBEDDINGS = frozenset(
    {
        "embed_in",
        "embed_tokens",
        "embeddings",
        "tok_embeddings",
        "token_embd",
        "tokens_embed",
        "word_embeddings",
        "wte",
    }
)
_POSITIONS = frozenset({"embed_positions", "position_embeddings", "positions_embed", "wpe"})
_HEADS = frozenset({"embed_out", "head", "lm_head"})
# What chooses among experts; the last is ggml's.
_ROUTERS = frozenset({"gate", "router", "ffn_gate_inp"})
# Of a GGUF file, where it is the whole name.
_GGUF_HEAD = "output.weight"


def role_of(tensor: TensorShape) -> Role:
    """What a tensor is for; experts that are kept as one stack are linear weights, too."""
    parts = set(tensor.name.split("."))
    if parts & _EMBEDDINGS:
        return "embedding"
    if parts & _HEADS or tensor.name == _GGUF_HEAD:
        return "head"
    if parts & _ROUTERS:
        return "router"
    of_layer = tensor.name.endswith(".weight") and not parts & _POSITIONS
    is_stack = is_expert(tensor) and len(tensor.shape) == 3
    return "linear" if is_stack or (of_layer and len(tensor.shape) in (2, 3)) else "other"


def is_linear(tensor: TensorShape) -> bool:
    """Whether a tensor is the weight of a linear layer, which bitsandbytes and torchao quantize."""
    return len(tensor.shape) == 2 and role_of(tensor) == "linear" and not is_expert(tensor)


def is_embedding(tensor: TensorShape) -> bool:
    """Whether a tensor is a table of the tokens' embeddings."""
    return len(tensor.shape) == 2 and role_of(tensor) == "embedding"


def is_expert(tensor: TensorShape) -> bool:
    """Whether a tensor holds weights of experts, among which a router chooses."""
    return "experts" in tensor.name.split(".")
