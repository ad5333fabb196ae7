"""Noise in weights: where it goes, how much there is, and that nothing but its words decides it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from safetensors.torch import load_file

from actors.cells import CELLS
from actors.held_model import hold_model
from actors.weight_noise import drawn, noised
from orchestrator.contract.noise import Noise
from orchestrator.contract.shards import Assignment, OneDevice
from orchestrator.contract.variant_errors import CannotLoadError
from orchestrator.inputs.sources import find_sources
from orchestrator.planning.devices import Devices
from orchestrator.planning.layout import lay_out
from orchestrator.settings import Settings
from tests.pipeline import ONE_CORE
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "m", hidden=128, tied=True)


def assigned(model: Path, *variants: str, devices: Devices = ONE_CORE) -> list[Assignment]:
    """What actors of some variants are told, as a sweep tells them."""
    settings = Settings(model=str(model), dataset="demo", variants=variants, reference=variants[0])
    layout = lay_out(settings, find_sources(settings), devices)
    return [sized.assignment(threads=1) for sized in layout.variants]


def weights_of(assignment: Assignment) -> dict[str, torch.Tensor]:
    """The weights that a variant is loaded from."""
    with noised(assignment) as (location, _):
        path = Path(location.id_or_path) / "model.safetensors"
        return {name: tensor.float() for name, tensor in load_file(path).items()}


def random_weights(rows: int = 64, columns: int = 256) -> torch.Tensor:
    torch.manual_seed(0)
    return (0.02 * torch.randn(rows, columns)).half().float()


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_cells_are_those_that_bitsandbytes_rounds_to(kind: str) -> None:
    weights = random_weights()
    cells = CELLS[kind](weights)
    quantized, state = functional.quantize_4bit(
        weights.reshape(-1, 64), blocksize=64, quant_type=kind
    )
    levels = functional.dequantize_4bit(quantized, state).reshape(-1)
    # A weight's level is in its cell: no further from it than the cell is wide.
    assert ((levels - weights.reshape(-1)).abs() <= 2 * cells.half_widths * (1 + 1e-5)).all()
    # Weights of one code and block have one level, but for those in the middle between two, which
    # processors round to either.
    blocks = torch.arange(weights.numel()) // 64
    pairs = torch.stack([blocks, cells.codes, levels.view(torch.int32).long()])
    others = len(pairs.unique(dim=1).T) - len(pairs[:2].unique(dim=1).T)
    assert others <= weights.numel() * 1e-3


def test_cells_of_eight_bits_are_those_of_llm_int8() -> None:
    weights = random_weights()
    cells = CELLS["int8"](weights)
    codes, scales, _ = functional.int8_vectorwise_quant(weights.half())
    assert (cells.codes.reshape_as(codes) == codes).float().mean() > 0.999
    assert torch.allclose(
        cells.half_widths.reshape_as(weights)[:, :1], scales[:, None] / 127 / 2, rtol=1e-3
    )


def test_weights_that_are_all_zero_have_cells() -> None:
    for make in CELLS.values():
        cells = make(torch.zeros(4, 64))
        assert torch.isfinite(cells.half_widths).all()


def test_it_is_drawn_by_seed_and_name_alone() -> None:
    noise = Noise(sigma=1, unit="abs")
    first = drawn(noise, "a.weight", (64, 256))
    assert torch.equal(first, drawn(Noise(sigma=2, unit="nf4"), "a.weight", (64, 256)))
    others = [
        drawn(noise, "b.weight", (64, 256)),
        drawn(Noise(sigma=1, unit="abs", seed=1), "a.weight", (64, 256)),
    ]
    for other in others:
        correlation = np.corrcoef(first.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert abs(correlation) < 0.03
    assert float(first.std()) == pytest.approx(1, abs=0.02)


def test_it_goes_into_what_the_quantizer_takes_and_nothing_else(model: Path) -> None:
    (assignment,) = assigned(model, "fp16+noise=abs:0.01")
    before, after = load_file(model / "model.safetensors"), weights_of(assignment)
    assert before.keys() == after.keys()
    for name, weights in before.items():
        change = after[name] - weights.float()
        if name.endswith("proj.weight"):
            assert float(change.std()) == pytest.approx(0.01, rel=0.05)
        else:
            assert not change.any()


def test_a_unit_is_the_median_half_width_of_a_tensors_cells(model: Path) -> None:
    (assignment,) = assigned(model, "nf4+noise=0.5")
    before, after = load_file(model / "model.safetensors"), weights_of(assignment)
    name = "model.layers.0.mlp.up_proj.weight"
    unit = float(CELLS["nf4"](before[name].float()).half_widths.median())
    assert float((after[name] - before[name]).std()) == pytest.approx(0.5 * unit, rel=0.05)


def test_the_control_has_the_same_noise_unquantized(model: Path) -> None:
    noisy, control = assigned(model, "nf4+noise=0.5", "fp16+noise=nf4:0.5")
    one, other = weights_of(noisy), weights_of(control)
    assert all(torch.equal(one[name], other[name]) for name in one)
    held: Any = hold_model(noisy)
    layer = held.model.model.layers[0].mlp.up_proj.weight
    found = functional.dequantize_4bit(layer.data, layer.quant_state).float()
    weights = other["model.layers.0.mlp.up_proj.weight"].half()
    quantized, state = functional.quantize_4bit(weights, blocksize=64, quant_type="nf4")
    assert torch.equal(found, functional.dequantize_4bit(quantized, state).float())


def test_what_it_did_is_measured(model: Path) -> None:
    little, much, control, absolute = (
        hold_model(each).loading
        for each in assigned(
            model, "nf4+noise=0.1", "nf4+noise=2", "fp16+noise=nf4:2", "fp16+noise=abs:0.01"
        )
    )
    assert 0 < little["codes_changed_share"] < 0.1 < 0.5 < much["codes_changed_share"] < 0.8
    assert control["codes_changed_share"] == much["codes_changed_share"]
    assert much["noise_sigma"] == pytest.approx(20 * little["noise_sigma"])
    assert (absolute["noise_sigma"], absolute["codes_changed_share"]) == (
        pytest.approx(0.01),
        None,
    )


@pytest.mark.parametrize("variant", ["int8+noise=1", "torchao-int8+noise=1", "bf16+noise=nf4:1"])
def test_any_variant_made_here_takes_it(variant: str, model: Path) -> None:
    (assignment,) = assigned(model, variant)
    assert hold_model(assignment).loading["noise_sigma"] > 0


def test_nothing_is_left_of_the_second_checkpoint(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (assignment,) = assigned(model, "nf4+noise=1")
    hold_model(assignment)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_in_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (assignment,) = assigned(model, "nf4+noise=1")
    monkeypatch.setattr("actors.weight_noise._Writer.write", full)
    with (
        pytest.raises(CannotLoadError, match=r"No space left on device.*set TMPDIR"),
        noised(assignment),
    ):
        pass


def test_without_noise_the_files_are_the_models_own(model: Path) -> None:
    (assignment,) = assigned(model, "nf4")
    assert assignment.noisy == ()
    with noised(assignment) as (location, measures):
        assert (location, measures) == (assignment.location, None)
    assert assignment.placement == OneDevice(device="cpu")
