"""Each grid is its specification's, value by value, and the libraries' quantizers agree."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torchao.prototype.mx_formats import mx_tensor, nvfp4_tensor
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
from torchao.quantization import quant_primitives as torchao

from actors.rounding import quantized, rounded
from orchestrator.contract.formats import FORMATS, Rounding
from orchestrator.contract.grids import GRIDS

# Published: OCP MX 1.0, table 5 (E2M1).
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MXFP4, MXFP8 = FORMATS["mxfp4"].weights, FORMATS["mxfp8"].weights
NVFP4 = FORMATS["nvfp4"].weights
FP8, INT8 = FORMATS["fp8"].weights, FORMATS["w8a8"].weights


def random(rows: int = 48, columns: int = 512, spread: float = 0.02) -> torch.Tensor:
    torch.manual_seed(0)
    found = spread * torch.randn(rows, columns) * torch.exp2(torch.randint(-6, 6, (rows, 1)))
    found[0] = 0.0
    found[1, :32] = 0.0
    return found


def nearest(numbers: torch.Tensor, rounding: Rounding, largest: float) -> torch.Tensor:
    """The levels of numbers where the scale is 1, since the grid's end is beside each."""
    rows = torch.stack([numbers, torch.full_like(numbers, largest)], dim=1)
    return quantized(rows, Rounding(rounding.grid, None, "float32")).levels[:, 0, 0]


@pytest.mark.parametrize(
    ("rounding", "published"),
    [
        (MXFP4, sorted({sign * level for level in E2M1 for sign in (-1, 1)})),
        (FP8, next(grid.levels for grid in GRIDS if grid.name == "FP8 E4M3")),
    ],
)
def test_levels_are_those_of_the_specification(rounding: Rounding, published: Any) -> None:
    levels = torch.tensor([float(level) for level in published])
    assert torch.equal(nearest(levels, rounding, max(published)), levels)
    between = torch.linspace(-max(published), max(published), 100_001)
    assert torch.isin(nearest(between, rounding, max(published)), levels).all()


@pytest.mark.parametrize("grid", ["FP8 E4M3", "FP4 E2M1"])
def test_the_nearest_level_is_taken_and_of_two_the_even_one(grid: Any) -> None:
    """Against the levels that the audit reads, in the order of their codes, in float64."""
    published = np.asarray(next(one.levels for one in GRIDS if one.name == grid))
    positive = published[published >= 0]
    between = (positive[1:] + positive[:-1]) / 2
    largest = float(positive[-1])
    rounding = Rounding(grid, None, "float32")
    found = nearest(torch.tensor(between, dtype=torch.float32), rounding, largest).numpy()
    even = [positive[n + n % 2] for n in range(len(between))]
    np.testing.assert_array_equal(found, even)
    torch.manual_seed(0)
    numbers = torch.rand(4000) * largest
    found = nearest(numbers, rounding, largest).double().numpy()
    distances = np.abs(positive[None] - numbers.double().numpy()[:, None])
    np.testing.assert_array_equal(np.abs(found - numbers.numpy()), distances.min(1))


@pytest.mark.parametrize("spread", [1e-30, 1e-3, 1.0, 3e4])
@pytest.mark.parametrize(
    ("rounding", "dtype", "mode"),
    [
        (MXFP4, torch.float4_e2m1fn_x2, mx_tensor.ScaleCalculationMode.EVEN),
        (MXFP8, torch.float8_e4m3fn, mx_tensor.ScaleCalculationMode.RCEIL),
    ],
)
def test_mx_scales_and_values_are_torchaos(
    rounding: Rounding, dtype: torch.dtype, mode: Any, spread: float
) -> None:
    numbers = random(spread=spread)
    scales, codes = mx_tensor.to_mx(numbers, dtype, 32, mode)
    found = quantized(numbers, rounding)
    exponents = scales.view(torch.uint8).reshape(found.scales.shape).int() - 127
    assert torch.equal(found.scales, torch.ldexp(torch.ones_like(found.scales), exponents))
    expanded = mx_tensor.to_dtype(codes, scales, dtype, 32, torch.float32)
    assert torch.equal(rounded(numbers, rounding), expanded)


def test_nvfp4_is_torchaos_with_a_scale_of_the_tensor() -> None:
    numbers = random()
    of_tensor = nvfp4_tensor.per_tensor_amax_to_scale(numbers.abs().amax())
    scales, packed = nvfp4_tensor.nvfp4_quantize(numbers, 16, of_tensor)
    expected = nvfp4_tensor.NVFP4Tensor(
        packed, scales, 16, torch.float32, per_tensor_scale=of_tensor
    ).dequantize(torch.float32)
    found = quantized(numbers, NVFP4)
    assert torch.equal(found.scales.squeeze(-1), scales.float().reshape(48, -1) * of_tensor)
    # torchao multiplies by the inverse: a number in the middle of two levels may go to either.
    differing = rounded(numbers, NVFP4) != expected
    assert differing.float().mean() < 1e-3


def test_fp8_and_int8_are_torchaos_by_row() -> None:
    numbers = random()[1:]
    scale = torchao._choose_scale_float8(numbers, [1, numbers.shape[1]])
    expected = torchao._dequantize_affine_float8(
        torchao._quantize_affine_float8(numbers, scale), scale, torch.float32
    )
    assert torch.equal(rounded(numbers, FP8), expected)
    largest = numbers.abs().amax(1, keepdim=True)
    steps = (numbers / (largest / 127.5)).round().clamp(-128, 127)
    assert torch.equal(quantized(numbers, INT8).levels.squeeze(1), steps)


def test_int8_multiplies_as_torchaos_kernel_of_processors() -> None:
    """But for a number in the middle of two steps, which may go to either."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 64)
    weights, inputs = layer.weight.data.clone(), torch.randn(3, 5, 256)
    quantize_(layer, Int8DynamicActivationInt8WeightConfig())
    by_hand = torch.nn.functional.linear(rounded(inputs, INT8), rounded(weights, INT8), layer.bias)
    differences = (layer(inputs) - by_hand).abs()
    # A step is some 0.03 of an input, and 0.0005 of a weight.
    assert differences.median() < 1e-6 and differences.max() < 0.005


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_rounded_once_stays(name: str) -> None:
    """And no number changes its sign, or goes further than a step."""
    form = FORMATS[name]
    for rounding in {form.weights, form.activations} - {None}:
        numbers = random()
        once = rounded(numbers, rounding)
        assert torch.isfinite(once).all() and (once * numbers >= 0).all()
        if rounding.grid != "INT8 symmetric":
            # There the largest is half a step from the end, which the next scale is made of.
            assert torch.allclose(rounded(once, rounding), once, rtol=1e-6)
        assert rounded(numbers.half(), rounding).dtype == torch.float16
        share = float((once - numbers).norm() / numbers.norm())
        assert share < {4: 0.15, 8: 0.04}[4 if "E2M1" in rounding.grid else 8]


def test_a_token_has_its_own_scales_whatever_is_beside_it() -> None:
    for form in FORMATS.values():
        if form.activations is not None:
            tokens = random(6, 128, 1.0)
            together = rounded(tokens.reshape(2, 3, 128), form.activations).reshape(6, 128)
            alone = torch.stack([rounded(row[None], form.activations)[0] for row in tokens])
            assert torch.equal(together, alone), form.name
    assert math.isclose(float(rounded(torch.tensor([[3.0, 6.0]]), FP8)[0, 1]), 6.0)
