"""The divergence of two models' distributions: the arithmetic, and from a window to a token."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.head import StateReader
from actors.loading import load_model, prepare_arithmetic
from actors.token_divergence import (
    BYTES_PER_LOGIT,
    WORKSPACE_BYTES,
    chunks,
    compare_logits,
    compare_positions,
)
from actors.token_measures import TokenMeasures
from orchestrator.contract.shards import ModelLocation, Window
from orchestrator.contract.variants import VARIANTS
from tests import oracle
from tests.ruled_out import assert_as_by_scipy, ruled_out
from tests.tiny_models import make_tiny_model

CPU = torch.device("cpu")
IDS = tuple(np.random.default_rng(0).integers(2, 512, 90).tolist())
WINDOWS = (Window.scored_from(IDS[:50], 1), Window.scored_from(IDS[50:], 20))


def reader(folder: Path, variant: str, dtype: torch.dtype = torch.float32) -> StateReader:
    model = load_model(ModelLocation(id_or_path=str(folder)), VARIANTS[variant], CPU)
    prepare_arithmetic(model, dtype)
    return StateReader(model, CPU)


def compare(reference: StateReader, candidate: StateReader, window: Window) -> TokenMeasures:
    p, q = reference.states(window), candidate.states(window)
    targets = torch.tensor(window.target_ids)
    return compare_positions(
        p.logits, q.logits, targets, q.vocabulary, p.logit_bytes + q.logit_bytes
    )


def assert_as_defined(found: TokenMeasures, p: Any, q: Any, targets: tuple[int, ...]) -> None:
    for name, values in oracle.token_measures(p, q, list(targets)).items():
        measured = getattr(found, name).cpu().numpy()
        np.testing.assert_allclose(measured, values, atol=1e-5, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("architecture", "tied", "through_head"),
    [
        ("mistral", True, True),
        ("mistral", False, True),
        ("llama", False, True),
        ("qwen2", True, True),
        ("gemma2", True, True),
        ("cohere", True, True),
        ("granite", False, True),
        ("bert", False, True),
        ("falcon-h1", False, False),
    ],
)
@pytest.mark.parametrize("candidate", ["bf16", "int8", "nf4"])
def test_measures_are_those_of_the_full_logits(
    candidate: str, architecture: str, tied: bool, through_head: bool, tmp_path: Path
) -> None:
    if architecture == "bert" and candidate != "bf16":
        pytest.skip("bitsandbytes quantizes parts of BERT's head")
    folder = make_tiny_model(tmp_path, architecture, tied=tied)
    reference, other = reader(folder, "fp16"), reader(folder, candidate)
    assert (reference.head is not None) == through_head
    largest = 0.0
    full = (oracle.scored_logits(folder, name, WINDOWS) for name in ("fp16", candidate))
    for window, p, q in zip(WINDOWS, *full, strict=True):
        found = compare(reference, other, window)
        assert_as_defined(found, p, q, window.target_ids)
        largest = max(largest, float(found.kl.max()))
    # A candidate must differ, or nothing was shown.
    assert largest > 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_model_does_not_diverge_from_itself(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    found = compare(reader(folder, "fp16", dtype), reader(folder, "fp16", dtype), WINDOWS[0])
    assert float(found.kl.abs().max()) <= 1e-6
    assert float(found.reverse_kl.abs().max()) <= 1e-6
    assert bool(found.same_top_token.all())


def test_states_are_of_scored_positions_only_and_no_logits_of_a_window_are_made(
    tmp_path: Path,
) -> None:
    read = reader(make_tiny_model(tmp_path), "fp16")
    made = []
    model = read._model
    model.get_output_embeddings().register_forward_hook(lambda _, __, out: made.append(out.shape))
    states = read.states(WINDOWS[1])
    assert states.values.shape == (len(WINDOWS[1].target_ids), 64)
    assert made == [(1, 1, 512)]
    # The model is left as it was.
    assert model(torch.tensor([IDS[:9]])).logits.shape == (1, 9, 512)


logits = st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(logits, logits, st.integers(0, 4)), min_size=1, max_size=6))
def test_the_arithmetic_is_the_definition(rows: list[tuple[list[float], list[float], int]]) -> None:
    p, q = (torch.tensor([row[n] for row in rows]) for n in (0, 1))
    targets = tuple(row[2] for row in rows)
    found = compare_logits(p, q, torch.tensor(targets))
    for name, values in oracle.token_measures(p, q, list(targets)).items():
        # Of equal logits either may be the top one.
        if not name.endswith("top_token"):
            np.testing.assert_allclose(getattr(found, name).numpy(), values, atol=1e-5, rtol=1e-6)
    assert float(found.kl.min()) >= -1e-6
    assert float(found.reverse_kl.min()) >= -1e-6


@pytest.mark.parametrize("vocabulary", [32_000, 151_936, 262_144])
def test_a_large_vocabulary_agrees_with_float64(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(1)
    p = 4 * torch.randn(6, vocabulary, generator=generator)
    q = (p + 0.05 * torch.randn(6, vocabulary, generator=generator)).half()
    p = p.half()
    targets = torch.arange(6)
    found = compare_positions(lambda s: p[s], lambda s: q[s], targets, vocabulary, 4)
    assert_as_defined(found, p, q, tuple(range(6)))


@settings(max_examples=30, deadline=None)
@given(
    vocabulary=st.integers(2, 4000),
    level=st.floats(-60, 60),
    difference=st.floats(0, 0.01),
    seed=st.integers(0, 1000),
)
def test_close_models_have_no_negative_divergence(
    vocabulary: int, level: float, difference: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = level + 3 * torch.randn(8, vocabulary, generator=generator)
    q = p + difference * torch.randn(8, vocabulary, generator=generator)
    found = compare_logits(p, q, torch.tensor([0] * 8))
    expected = oracle.token_measures(p, q, [0] * 8)
    for name in ("kl", "reverse_kl"):
        measured = getattr(found, name).numpy()
        assert measured.min() >= -1e-6
        np.testing.assert_allclose(measured, expected[name], atol=1e-6, rtol=1e-5)


def test_what_both_rule_out_is_no_difference_and_what_one_does_is_infinite() -> None:
    """Against scipy, of which 0 · ln 0 is 0 too."""
    p, q = ruled_out(5000)
    found = compare_logits(p, q, torch.tensor([700] * len(p)))
    assert_as_by_scipy(found, p, q)
    # Nor is what is not a number taken for what is ruled out.
    p[1, 3] = float("nan")
    broken = compare_logits(p, q, torch.tensor([700] * len(p)))
    assert broken.kl.isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_a_number_shows_in_its_own_position_alone(broken: float) -> None:
    p = torch.randn(3, 500)
    q = p.clone()
    q[1, 3] = broken
    found = compare_logits(p, q, torch.tensor([1, 1, 1]))
    assert found.kl.isfinite().tolist() == [True, False, True]
    assert found.reverse_kl.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("vocabulary", [100, 32_000, 262_144])
def test_chunks_cover_each_position_once_within_the_workspace(vocabulary: int) -> None:
    parts = list(chunks(5000, vocabulary, BYTES_PER_LOGIT))
    covered = [position for chunk in parts for position in range(5000)[chunk]]
    assert covered == list(range(5000))
    longest = max(chunk.stop - chunk.start for chunk in parts)
    assert longest * vocabulary * BYTES_PER_LOGIT <= WORKSPACE_BYTES
