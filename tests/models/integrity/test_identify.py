"""Every way to quantize is found by the grid that it leaves behind; genuine weights are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from actors.ways_to_quantize import DTYPES, Matrix, Way
from benchmarks.genuine_weights import gaussian, genuine
from benchmarks.once_quantized import WAYS, turned
from orchestrator.inputs.weight_files import read_header
from orchestrator.integrity.outcome import TensorOutcome
from orchestrator.integrity.tensors import examine

DTYPE_NAMES = tuple(DTYPES)


def looked_at(
    weights: Matrix, dtype: str, folder: Path, *, kept: str | None = None, everything: bool = False
) -> TensorOutcome:
    """What an audit says of one matrix, rounded to a dtype and kept in another."""
    tensor = torch.from_numpy(np.ascontiguousarray(weights)).to(DTYPES[dtype])
    path = folder / "weights.safetensors"
    save_file({"layer.weight": tensor.to(DTYPES[kept or dtype])}, path)
    (stored,) = read_header(path, "MODEL")
    found = examine(stored, everything=everything)
    assert found is not None
    return found.outcome


# bfloat16 tells the least; `benchmarks/audit.py` makes the whole table.
@pytest.mark.parametrize("name", WAYS)
def test_a_way_to_quantize_is_found(name: str, tmp_path: Path) -> None:
    way = WAYS[name]
    check(looked_at(way.make(gaussian()), "bfloat16", tmp_path), way)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["LLM.int8", "NF4 by 64", "Q4_K", "FP8 E4M3 by row", "NVFP4"])
def test_a_way_to_quantize_is_found_in_any_dtype(name: str, dtype: str, tmp_path: Path) -> None:
    way = WAYS[name]
    check(looked_at(way.make(gaussian()), dtype, tmp_path), way)


@pytest.mark.parametrize("name", WAYS)
def test_a_way_to_quantize_is_found_where_weights_lie_the_other_way(
    name: str, tmp_path: Path
) -> None:
    way = turned(WAYS[name])
    check(looked_at(way.make(gaussian(768, 512)), "float16", tmp_path), way)


def check(found: TensorOutcome, way: Way) -> None:
    assert found.verdict == "on a grid"
    assert (found.family, found.block) == (way.family, way.block)
    assert way.name is None or way.name in found.names
    assert found.groups_permuted == (way.family == "INT4 affine" and way.block is None)
    assert found.share is not None and found.share >= 0.99


GENUINE = dict(genuine())


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("name", GENUINE)
def test_genuine_weights_are_on_no_grid(name: str, dtype: str, tmp_path: Path) -> None:
    assert looked_at(GENUINE[name], dtype, tmp_path).verdict == "plain"


@pytest.mark.parametrize(
    ("rounded", "kept"),
    [("bfloat16", "float16"), ("bfloat16", "float32"), ("float16", "float32")],
)
def test_a_dtype_within_a_dtype_is_seen_through(rounded: str, kept: str, tmp_path: Path) -> None:
    quantized = looked_at(WAYS["NF4 by 64"].make(gaussian()), rounded, tmp_path, kept=kept)
    assert (quantized.family, quantized.holds) == ("NF4", rounded)
    assert looked_at(gaussian(), rounded, tmp_path, kept=kept).verdict == "plain"


@pytest.mark.parametrize("name", ["NF4 by 64", "Q4_1", "INT8 by row", "FP8 E4M3 by tile"])
def test_all_of_a_tensor_shows_what_its_sample_does(name: str, tmp_path: Path) -> None:
    way = WAYS[name]
    large = gaussian(1536, 1024)
    check(looked_at(way.make(large), "float16", tmp_path, everything=True), way)
    assert looked_at(large, "float16", tmp_path, everything=True).verdict == "plain"


# bitsandbytes expands rows of 144 or 96 on a CPU into other weights than it quantized.
@pytest.mark.parametrize("columns", [200, 1000])
def test_blocks_that_run_over_the_ends_of_rows_are_found(columns: int, tmp_path: Path) -> None:
    found = looked_at(WAYS["NF4 by 64"].make(gaussian(512, columns)), "float16", tmp_path)
    assert (found.family, found.block) == ("NF4", 64)


def test_stacked_experts_are_found_in_either_direction(tmp_path: Path) -> None:
    make: Callable[[Matrix], Matrix] = WAYS["MXFP4"].make
    experts = np.stack([make(gaussian(256, 128, seed)) for seed in range(8)])
    for weights in (experts, np.ascontiguousarray(experts.transpose(0, 2, 1))):
        path = tmp_path / "experts.safetensors"
        save_file({"mlp.experts.down_proj": torch.from_numpy(weights).bfloat16()}, path)
        (stored,) = read_header(path, "MODEL")
        found = examine(stored, everything=False)
        assert found is not None
        assert (found.outcome.role, found.outcome.names) == ("linear", ("MXFP4",))
        assert found.outcome.block == 32
