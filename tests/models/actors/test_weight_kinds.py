"""Bytes of weights by what they are, against the shapes of the model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from actors.loading import load_model
from actors.weights import weight_bytes
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from tests.tiny_models import make_tiny_model


def shapes(folder: Path) -> tuple[int, int, int]:
    """Numbers in the linear layers but the head, in embedding and head, and in all else."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    ends = {id(p): p.numel() for p in (model.get_input_embeddings().weight, model.lm_head.weight)}
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and id(module.weight) not in ends
    )
    everything = sum({id(p): p.numel() for p in model.parameters()}.values())
    return linear, sum(ends.values()), everything - linear - sum(ends.values())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("variant", "bits"), [("int8", 8), ("nf4", 4), ("nf4-dq", 4), ("torchao-int8", 8)]
)
def test_quantized_numbers_are_apart_from_their_scales_and_from_what_is_not_quantized(
    variant: str, bits: int, tied: bool, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path, "qwen2", tied=tied)
    linear, ends, other = shapes(folder)
    location = ModelLocation(id_or_path=str(folder))
    found = weight_bytes(load_model(location, VARIANTS[variant], torch.device("cpu")))
    assert found.quantized == linear * bits // 8
    assert found.embeddings == 2 * ends
    assert found.other == 2 * other
    assert 0 < found.scales < found.quantized
    assert found.total == found.quantized + found.scales + found.embeddings + found.other


def test_double_quantization_is_of_the_scales(tmp_path: Path) -> None:
    location = ModelLocation(id_or_path=str(make_tiny_model(tmp_path, hidden=512)))
    plain, double = (
        weight_bytes(load_model(location, VARIANTS[name], torch.device("cpu")))
        for name in ("nf4", "nf4-dq")
    )
    assert double.scales < 0.6 * plain.scales
    assert (double.quantized, double.embeddings) == (plain.quantized, plain.embeddings)


def test_a_model_that_is_not_quantized_has_neither_packed_numbers_nor_scales(
    tmp_path: Path,
) -> None:
    folder = make_tiny_model(tmp_path)
    linear, ends, other = shapes(folder)
    location = ModelLocation(id_or_path=str(folder))
    found = weight_bytes(load_model(location, VARIANTS["fp16"], torch.device("cpu")))
    assert (found.quantized, found.scales) == (0, 0)
    assert (found.embeddings, found.other) == (2 * ends, 2 * (linear + other))
