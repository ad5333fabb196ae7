"""What multiplies weights, by its name; and 4-bit tiles, rounded without their kernel."""

from pathlib import Path

import pytest
import torch
from torchao.quantization import quant_primitives as torchao

from actors.kernels import linear_of
from actors.loading import load_model
from actors.tile_int4 import rounded
from orchestrator.contract.shards import ModelLocation
from orchestrator.contract.variants import VARIANTS
from orchestrator.inputs.weight_files import TensorShape
from orchestrator.planning.sizes import expected_weights_bytes, resident_bytes
from tests.models.actors.test_streaming import make_model

CPU = torch.device("cpu")
TILE = VARIANTS["torchao-int4-tile"]


@pytest.mark.parametrize(
    ("architecture", "variant", "name"),
    [
        ("mistral", "fp16", "torch Linear"),
        ("gpt2", "fp16", "transformers Conv1D"),
        ("mistral", "nf4", "bitsandbytes Linear4bit"),
        ("mistral", "int8", "bitsandbytes Linear8bitLt"),
        ("mistral", "torchao-int8", "torchao Int8Tensor"),
        ("mistral", "torchao-int4", "torchao IntxUnpackedToInt8Tensor"),
    ],
)
def test_linear_layers_are_called_by_what_multiplies(
    architecture: str, variant: str, name: str, tmp_path: Path
) -> None:
    location = ModelLocation(id_or_path=str(make_model(tmp_path, architecture)))
    assert linear_of(load_model(location, VARIANTS[variant], CPU)) == name


def rounded_by_torchao(weights: torch.Tensor) -> torch.Tensor:
    """Quantized by the package's own arithmetic in bfloat16, and expanded in float32."""
    block, bounds = (1, 128), (0, 15)
    scale, middle = torchao._choose_qparams_affine_tinygemm(
        weights,
        torchao.MappingType.ASYMMETRIC,
        block,
        torch.int32,
        *bounds,
        scale_dtype=torch.bfloat16,
        zero_point_dtype=torch.bfloat16,
    )
    codes = torchao._quantize_affine_tinygemm(weights, block, scale, middle, torch.int32, *bounds)
    return torchao._dequantize_affine_tinygemm(
        codes, block, scale, middle, torch.int32, *bounds, output_dtype=torch.float32
    )


@pytest.mark.parametrize("spread", [1e-4, 0.02, 30.0])
def test_tiles_are_rounded_as_torchao_rounds_them(spread: float) -> None:
    torch.manual_seed(0)
    weights = (spread * torch.randn(96, 512) + spread / 3).to(torch.bfloat16)
    weights[0, :128] = 0.0
    weights[1, 128:256] = spread
    expected = rounded_by_torchao(weights).to(torch.bfloat16)
    assert torch.equal(rounded(weights, 128), expected)
    assert rounded(weights, 128).unique().numel() <= 16 * weights.numel() // 128


def test_tiles_take_what_whole_tiles_take_where_there_is_a_kernel() -> None:
    """Of 100 rows of 1,152 weights: 104 of 2,048."""
    tensors = [TensorShape("model.layers.0.mlp.up_proj.weight", (100, 1152), 2 * 100 * 1152)]
    assert expected_weights_bytes(tensors, TILE) == 104 * 2048 // 2 + 4 * 104 * 16
    assert resident_bytes(tensors, TILE, "bfloat16") == 104 * 2048 // 2 + 4 * 104 * 16
    assert resident_bytes(tensors, TILE, "float32", emulated=True) == 4 * 100 * 1152
    whole = [TensorShape("model.layers.0.mlp.up_proj.weight", (100, 100), 2 * 100 * 100)]
    assert expected_weights_bytes(whole, TILE) == 2 * 100 * 100
