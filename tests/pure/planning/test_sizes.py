"""Bytes of weights from the architecture, against published arithmetic and measured models."""

import math

import pytest

from orchestrator.contract.variants import VARIANTS
from orchestrator.inputs.weight_files import TensorShape
from orchestrator.planning.sizes import (
    activation_bytes,
    expected_weights_bytes,
    streamed_bytes,
    tokens_with_cache,
)


def bfloat16(name: str, shape: tuple[int, ...]) -> TensorShape:
    return TensorShape(name, shape, 2 * math.prod(shape))


def mistral_7b() -> list[TensorShape]:
    """The tensors of Mistral 7B v0.2, from its published configuration."""
    hidden, intermediate, kv, vocabulary = 4096, 14336, 1024, 32000
    layer = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    return [
        bfloat16("model.embed_tokens.weight", (vocabulary, hidden)),
        bfloat16("lm_head.weight", (vocabulary, hidden)),
        bfloat16("model.norm.weight", (hidden,)),
        *(
            bfloat16(f"model.layers.{number}.{name}.weight", shape)
            for number in range(32)
            for name, shape in layer.items()
        ),
    ]


@pytest.mark.parametrize(
    ("variant", "gib"),
    [("fp16", 13.489), ("int8", 6.994), ("nf4", 4.145), ("nf4-dq", 3.842), ("fp32", 26.977)],
)
def test_mistral_7b_takes_what_the_arithmetic_says(variant: str, gib: float) -> None:
    size = expected_weights_bytes(mistral_7b(), VARIANTS[variant])
    assert size / 2**30 == pytest.approx(gib, abs=0.0006)


def test_what_a_forward_pass_takes_is_about_what_was_measured() -> None:
    """On an H100: four windows of 2,048 took 0.94 GiB beside FP16's weights, NF4's and LLM.int8's
    about as much; that it is foreseen keeps a sweep from failing in its first minute.
    """
    fp16, int8 = VARIANTS["fp16"], VARIANTS["int8"]
    foreseen = activation_bytes(mistral_7b(), 4 * 2048, "float16", fp16) / 2**30
    assert 0.94 < foreseen < 1.3
    assert activation_bytes(mistral_7b(), 2048, "float16", fp16) < 0.5 * 2**30
    # On an H200 a window took 0.773 GiB beside LLM.int8's weights.
    assert activation_bytes(mistral_7b(), 2048, "float16", int8) / 2**30 == pytest.approx(
        0.773, rel=0.05
    )


def test_what_is_streamed_takes_two_layers_of_a_device_and_what_is_of_no_layer() -> None:
    """On an H200 torch had given 1,396,745,216 bytes to tensors, 1,024 of them no weights."""
    device, host = streamed_bytes(mistral_7b(), "float16")
    assert device == 1_396_745_216 - 1_024
    weights = expected_weights_bytes(mistral_7b(), VARIANTS["fp16"])
    assert host == weights + 436_224_000 + 2 * 2**30


def test_prompts_answered_at_once_have_room_for_their_keys_and_values() -> None:
    """A token of Mistral 7B takes 59,392 numbers to compute, and 65,536 are kept of it."""
    assert tokens_with_cache(mistral_7b(), 8192) == 8192 * 59_392 // (59_392 + 65_536)
    # One tensor for all three: as much as without groups of heads.
    fused = [t for t in mistral_7b() if "k_proj" not in t.name and "v_proj" not in t.name]
    assert tokens_with_cache(fused, 8192) == 8192 * 59_392 // (59_392 + 32 * 8192)
