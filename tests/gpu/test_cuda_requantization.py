"""What a GPU quantized is told by a CPU; skipped where there is no GPU."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from actors.requantization import nearest
from orchestrator.contract.requantization import Facts, Lines

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def four_bit(weights: torch.Tensor, kind: str, *, nested: bool = False) -> torch.Tensor:
    from bitsandbytes import functional

    quantized, state = functional.quantize_4bit(
        weights, blocksize=64, quant_type=kind, compress_statistics=nested
    )
    return torch.as_tensor(functional.dequantize_4bit(quantized, state))


def llm_int8(weights: torch.Tensor) -> torch.Tensor:
    from bitsandbytes import functional

    quantized, scales, _ = functional.int8_vectorwise_quant(weights)
    return torch.as_tensor(functional.int8_vectorwise_dequant(quantized, scales)).half()


@pytest.mark.parametrize(
    ("way", "quantize"),
    [
        ("NF4 by 64", lambda w: four_bit(w, "nf4")),
        ("FP4 by 64", lambda w: four_bit(w, "fp4")),
        ("NF4 by 64, nested", lambda w: four_bit(w, "nf4", nested=True)),
        ("LLM.int8", llm_int8),
    ],
)
def test_what_a_gpu_quantized_is_made_again_on_a_cpu(
    way: str, quantize: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.manual_seed(0)
    weights = (0.02 * torch.randn(512, 1024)).half()
    original = weights.float().numpy()
    suspect = quantize(weights.cuda()).float().cpu().numpy()
    found = nearest(Lines(original, np.asarray(suspect), "F16", Facts.of([original])))
    assert found is not None
    assert found.trial.way == way
    # A weight in the middle between two levels may go to the other one.
    others = suspect.size - found.equal
    assert others <= suspect.size * 5e-3
