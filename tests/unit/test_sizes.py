"""Bytes of weights from the architecture, against published arithmetic and measured models."""

import math

import pytest

from orchestrator.checkpoints import TensorShape
from orchestrator.contract.variants import VARIANTS
from orchestrator.sizes import expected_weights_bytes


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
